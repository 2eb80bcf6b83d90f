// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"time"

	"braid/agent/netstate"
)

const (
	fastTick = 20 * time.Millisecond  // while any device is busy
	slowTick = 200 * time.Millisecond //
	// busyPackets in a slow tick make a device busy, busyTicks of the last
	// fast ones with packets keep it so.
	busyPackets = 8
	busyTicks   = 4
	recentTicks = 10
	// forgotten is when a silence, of whatever cause, is no news any more.
	forgotten = 3 * time.Second
)

// deviceWatch is what a device has received of late.
type deviceWatch struct {
	packets uint64
	changed time.Time // when packets last rose
	recent  uint16    // a bit for each of the last ticks, set if it did
	wasBusy bool      // when it last did
}

// watchSilence looks at what the targets' devices receive. Nothing is faster
// to tell of a dead path than a stream that ends, and it costs no traffic: only
// when a busy device falls silent is a probe sent, to tell a dead path from
// one that has nothing to carry.
func (m *Monitor) watchSilence(ctx context.Context) {
	devices := make(map[string]*deviceWatch)
	tick := slowTick
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(tick):
		}
		counters := netstate.Counters()
		now := time.Now()
		busy := false
		m.mu.Lock()
		probers := make([]*prober, 0, len(m.probers))
		for _, p := range m.probers {
			probers = append(probers, p)
		}
		m.mu.Unlock()
		seen := make(map[string]bool)
		for _, p := range probers {
			name := p.target.Device
			d := devices[name]
			if d == nil {
				d = &deviceWatch{packets: counters[name].RXPackets, changed: now}
				devices[name] = d
			}
			if !seen[name] {
				seen[name] = true
				d.count(counters[name].RXPackets, now, tick)
			}
			busy = busy || d.wasBusy && now.Sub(d.changed) < forgotten
			m.judge(p, d, now)
		}
		for name := range devices {
			if !seen[name] {
				delete(devices, name)
			}
		}
		if tick = slowTick; busy {
			tick = fastTick
		}
	}
}

// count takes in a new counter value.
func (d *deviceWatch) count(packets uint64, now time.Time, tick time.Duration) {
	rose := packets - d.packets
	if packets < d.packets { // another device of that name
		rose = packets
	}
	d.packets = packets
	d.recent <<= 1
	if rose == 0 {
		return
	}
	d.recent |= 1
	d.changed = now
	if tick == slowTick {
		d.wasBusy = rose >= busyPackets
		d.recent = 0
		if d.wasBusy {
			d.recent = 1<<recentTicks - 1
		}
		return
	}
	n := 0
	for i := range recentTicks {
		n += int(d.recent >> i & 1)
	}
	d.wasBusy = n >= busyTicks
}

// judge raises, clears or confirms the suspicion that a path is dead.
func (m *Monitor) judge(p *prober, d *deviceWatch, now time.Time) {
	silence := now.Sub(d.changed)
	p.busy.Store(d.wasBusy && silence < forgotten)
	if !d.wasBusy || silence < suspicion || silence > forgotten {
		if p.suspect.Swap(false) {
			m.calm(p, now)
		}
		return
	}
	if !p.suspect.Swap(true) {
		p.asked.Store(0)
		p.kick()
		return
	}
	asked := p.asked.Load()
	if asked == 0 {
		return // no probe has left yet: then silence proves nothing
	}
	m.note(p.target.Path, func(t *tracker) { t.silent(now, silence, now.Sub(time.Unix(0, asked))) })
}

// calm learns from a silence that has ended. One that ended with the answer to
// our probe, in the usual time, was only a pause in the traffic.
func (m *Monitor) calm(p *prober, now time.Time) {
	asked := p.asked.Load()
	if asked == 0 {
		return
	}
	waited := now.Sub(time.Unix(0, asked))
	m.note(p.target.Path, func(t *tracker) {
		if waited > t.timeout()+fastTick {
			t.endured(now, waited+suspicion)
		}
	})
}
