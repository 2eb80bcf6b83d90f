// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"sync"
	"time"

	"braid/test/rig"
	"braid/test/traffic"
)

// endless is the size of a download that ends by its time.
const endless = traffic.Endless

// download is one that runs.
type download struct {
	cancel context.CancelFunc
	doneC  chan struct{}
	report traffic.Report // after doneC
	err    error          // after doneC

	mu      sync.Mutex
	bytes   int64
	last    time.Time     // of the last read
	longest time.Duration // between two reads, since stall was called
}

// start starts a download that ends after so many bytes or, unless that is 0,
// after that time.
func start(ctx context.Context, dial traffic.Dial, bytes int64, length time.Duration) *download {
	ctx, cancel := context.WithCancel(ctx)
	d := &download{cancel: cancel, doneC: make(chan struct{}), last: time.Now()}
	watched := traffic.Dial(func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		return watch{c, d}, err
	})
	go func() {
		defer close(d.doneC)
		d.report, d.err = watched.Do(ctx, traffic.Download, traffic.Request{Bytes: bytes, For: length})
	}()
	return d
}

// stop ends the download if it has not ended by itself.
func (d *download) stop() {
	d.cancel()
	<-d.doneC
}

// intact is how many bytes arrived as they were sent, after stop.
func (d *download) intact() int64 {
	if d.report.Mismatch >= 0 {
		return d.report.Mismatch
	}
	return d.report.Bytes
}

// received is how many bytes have arrived so far.
func (d *download) received() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

// stall is the longest time without a read since it was called last. One that
// lasts counts with what it has lasted.
func (d *download) stall() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.doneC: // an end is no stall
	default:
		d.longest = max(d.longest, time.Since(d.last))
	}
	longest := d.longest
	d.longest = 0
	return longest
}

// watch is a connection that tells its download of each read.
type watch struct {
	net.Conn
	d *download
}

func (w watch) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		now := time.Now()
		w.d.longest = max(w.d.longest, now.Sub(w.d.last))
		w.d.last = now
		w.d.bytes += int64(n)
	}
	return n, err
}

// rates are those of one second in Mbit/s: packets on each line towards the
// house, and what the computer got out of them.
type rates struct {
	fixed, cellular, together float64
}

// settled is the mean rate of a download without its first two seconds, in
// which it finds out how fast the lines are.
func settled(seconds []rates) float64 {
	var sum float64
	rest := seconds[min(2, len(seconds)):]
	for _, r := range rest {
		sum += r.together
	}
	return sum / float64(max(1, len(rest)))
}

// last is the last full second.
func last(seconds []rates) rates {
	if len(seconds) == 0 {
		return rates{}
	}
	return seconds[len(seconds)-1]
}

// meter turns counters into rates.
type meter struct {
	rig *rig.Rig
	d   *download

	at                        time.Time
	fixed, cellular, together int64
}

func newMeter(r *rig.Rig, d *download) *meter {
	m := &meter{rig: r, d: d}
	m.read()
	return m
}

// read returns the rates since it was called last.
func (m *meter) read() rates {
	before := *m
	m.at = time.Now()
	m.fixed = int64(m.rig.Link("fibre").BA().Counters().Bytes)
	m.cellular = int64(m.rig.Link("lte").BA().Counters().Bytes)
	m.together = m.d.received()
	mbps := func(now, then int64) float64 { return float64(now-then) * 8 / 1e6 / m.at.Sub(before.at).Seconds() }
	return rates{mbps(m.fixed, before.fixed), mbps(m.cellular, before.cellular), mbps(m.together, before.together)}
}
