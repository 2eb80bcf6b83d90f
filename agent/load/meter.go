// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"maps"
	"sync"
	"time"

	"braid/agent/netstate"
)

// Meter measures what the WANs carry, and keeps what follows from it.
type Meter struct {
	balancer Balancer

	mu       sync.Mutex
	at       time.Time                   // of the counters
	lines    []Line                      // replaced, not changed
	counters map[string]netstate.Traffic // replaced, not changed
	rates    map[string]Rates
	uses     map[string]Use
}

// Rates are in bit/s.
type Rates struct{ RX, TX float64 }

// Line is a WAN that is measured. What its Sample lacks are the rates.
type Line struct {
	Sample
	Device string
	Usable bool
}

// Watch says which lines are to be measured from now on.
func (m *Meter) Watch(lines []Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = lines
}

// Measure measures by what the devices had carried at a time, and says whether
// another set of WANs is to be held back. It is for one goroutine.
func (m *Meter) Measure(now time.Time, counters map[string]netstate.Traffic) (changed bool) {
	m.mu.Lock()
	last, lines, elapsed := m.counters, m.lines, now.Sub(m.at)
	m.counters, m.at = counters, now
	m.mu.Unlock()
	if last == nil || elapsed <= 0 {
		return false
	}
	measured := make(map[string]Rates, len(lines))
	var samples []Sample
	for _, l := range lines {
		r := Since(last[l.Device], counters[l.Device], elapsed)
		if measured[l.WAN] = r; l.Usable {
			l.RX, l.TX = r.RX, r.TX
			samples = append(samples, l.Sample)
		}
	}
	uses := m.balancer.Update(now, samples)
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = !maps.EqualFunc(uses, m.uses, func(a, o Use) bool { return a.Held == o.Held })
	m.rates, m.uses = measured, uses
	return changed
}

// Since are the rates of a device between two counts of it.
func Since(before, now netstate.Traffic, elapsed time.Duration) Rates {
	rate := func(before, now uint64) float64 {
		if now < before { // another device of that name
			return 0
		}
		return float64(now-before) * 8 / elapsed.Seconds()
	}
	return Rates{rate(before.RX, now.RX), rate(before.TX, now.TX)}
}

// Uses says, by WAN, which are held back, and why.
func (m *Meter) Uses() map[string]Use {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.uses
}

// Rates are what the WANs carried when last measured.
func (m *Meter) Rates() map[string]Rates {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rates
}

// Counters are those of all devices, by name, when last measured, and when that was.
func (m *Meter) Counters() (counters map[string]netstate.Traffic, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counters, m.at
}
