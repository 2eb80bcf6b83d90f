// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Report is what a transfer was like for its receiver. Times count from the start of the
// request; those an upload's server has measured, from its accept.
type Report struct {
	Bytes     int64
	Connect   time.Duration // until the connection was there
	FirstByte time.Duration // until the first byte had arrived
	Duration  time.Duration // until everything had
	// Stall is the longest time between two successful reads, and StallAt when it began. A
	// transfer that breaks off has stalled from its last read to its end. Request.StallFrom
	// leaves out what was before.
	Stall, StallAt time.Duration
	// Mismatch is the offset of the first wrong byte, or -1, and Instead what came there.
	Mismatch  int64
	Instead   string
	Intervals []Interval
}

// Rate is the mean in bit/s, from the start of the request.
func (r Report) Rate() float64 { return rate(r.Bytes, r.Duration) }

func (r Report) String() string {
	s := fmt.Sprintf("%d bytes in %v, %.2f Mbit/s, connect %v, first byte %v, longest stall %v at %v",
		r.Bytes, r.Duration.Round(time.Millisecond), r.Rate()/1e6, r.Connect.Round(time.Microsecond),
		r.FirstByte.Round(time.Microsecond), r.Stall.Round(time.Millisecond), r.StallAt.Round(time.Millisecond))
	if r.Mismatch >= 0 {
		s += fmt.Sprintf(", WRONG BYTE at offset %d: %s", r.Mismatch, r.Instead)
	}
	return s
}

// An Interval is a part of a transfer.
type Interval struct {
	From, To time.Duration
	Bytes    int64
}

// Rate in bit/s.
func (i Interval) Rate() float64 { return rate(i.Bytes, i.To-i.From) }

func rate(bytes int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(bytes) * 8 / d.Seconds()
}

// A meter makes a Report. One goroutine calls add; a sampler looks on.
type meter struct {
	start     time.Time
	stallFrom time.Duration
	bytes     atomic.Int64
	report    Report
	last      time.Duration // of the last add

	stopC chan struct{}
	wg    sync.WaitGroup
}

// newMeter counts from start, and cuts the transfer into intervals, if that is not 0.
func newMeter(start time.Time, r Request) *meter {
	m := &meter{start: start, stallFrom: r.StallFrom, stopC: make(chan struct{})}
	m.report.Mismatch = -1
	if r.Interval > 0 {
		m.wg.Go(func() { m.sample(r.Interval, r.Live) })
	}
	return m
}

func (m *meter) sample(interval time.Duration, live func(Interval)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last := Interval{To: time.Since(m.start)}
	var total int64
	for running := true; running; {
		select {
		case <-ticker.C:
		case <-m.stopC:
			running = false
		}
		now := m.bytes.Load()
		last = Interval{From: last.To, To: time.Since(m.start), Bytes: now - total}
		total = now
		m.report.Intervals = append(m.report.Intervals, last)
		if live != nil {
			live(last)
		}
	}
}

// add counts n bytes that a read has just brought.
func (m *meter) add(n int) {
	now := time.Since(m.start)
	if m.bytes.Add(int64(n)) == int64(n) {
		m.report.FirstByte = now
	} else {
		m.gap(now)
	}
	m.last = now
}

func (m *meter) gap(now time.Duration) {
	if d := now - m.last; now >= m.stallFrom && d > m.report.Stall {
		m.report.Stall, m.report.StallAt = d, m.last
	}
}

// end completes the Report.
func (m *meter) end(broken bool) Report {
	close(m.stopC)
	m.wg.Wait()
	m.report.Bytes = m.bytes.Load()
	m.report.Duration = time.Since(m.start)
	if broken && m.report.Bytes > 0 {
		m.gap(m.report.Duration)
	}
	return m.report
}
