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
	at       time.Time // of the counters

	mu       sync.Mutex
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

// Measure measures, and says whether another set of WANs is to be held back.
func (m *Meter) Measure(lines []Line) (changed bool) {
	now, counters := time.Now(), netstate.Counters()
	elapsed := now.Sub(m.at).Seconds()
	m.at = now
	m.mu.Lock()
	last := m.counters
	m.counters = counters
	m.mu.Unlock()
	if last == nil || elapsed <= 0 {
		return false
	}
	measured := make(map[string]Rates, len(lines))
	var samples []Sample
	for _, l := range lines {
		r := Rates{
			RX: rate(last[l.Device].RX, counters[l.Device].RX, elapsed),
			TX: rate(last[l.Device].TX, counters[l.Device].TX, elapsed),
		}
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

func rate(before, now uint64, seconds float64) float64 {
	if now < before { // another device of that name
		return 0
	}
	return float64(now-before) * 8 / seconds
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

// Counters are those of all devices, by name, when last measured.
func (m *Meter) Counters() map[string]netstate.Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counters
}
