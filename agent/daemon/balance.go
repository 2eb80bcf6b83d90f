// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"maps"
	"sync"
	"time"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/load"
	"braid/agent/netstate"
	"braid/agent/plan"
)

// balance measures what the WANs carry and keeps what follows from it.
type balance struct {
	balancer load.Balancer
	counters map[string]netstate.Traffic
	at       time.Time

	mu    sync.Mutex
	rates map[string]rates // by WAN, for whoever asks
	uses  map[string]load.Use
}

// rates are in bit/s.
type rates struct{ rx, tx float64 }

// sample measures, and says whether another set of WANs is to be held back.
func (b *balance) sample(c config.Config, p plan.Plan, known map[health.Leg]health.Health) (changed bool) {
	now, counters := time.Now(), netstate.Counters()
	elapsed := now.Sub(b.at).Seconds()
	last := b.counters
	b.counters, b.at = counters, now
	if last == nil || elapsed <= 0 {
		return false
	}
	measured := make(map[string]rates, len(p.WANs))
	var samples []load.Sample
	for i, w := range p.WANs {
		r := rates{
			rx: rate(last[w.Device].RX, counters[w.Device].RX, elapsed),
			tx: rate(last[w.Device].TX, counters[w.Device].TX, elapsed),
		}
		measured[w.Name] = r
		if !w.Usable {
			continue
		}
		samples = append(samples, load.Sample{
			WAN: w.Name, Role: w.Role, RX: r.rx, TX: r.tx,
			RateDown: float64(c.WANs[i].RateDown) * 1000, RateUp: float64(c.WANs[i].RateUp) * 1000,
			RTT: longest(w, known),
		})
	}
	uses := b.balancer.Update(now, samples)
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = !maps.EqualFunc(uses, b.uses, func(a, o load.Use) bool { return a.Held == o.Held })
	b.rates, b.uses = measured, uses
	return changed
}

// longest is the longest round trip of a WAN's legs.
func longest(w plan.WAN, known map[health.Leg]health.Health) (rtt time.Duration) {
	for _, l := range w.Legs {
		rtt = max(rtt, known[w.Health(l)].RTT)
	}
	return rtt
}

func rate(before, now uint64, seconds float64) float64 {
	if now < before { // another device of that name
		return 0
	}
	return float64(now-before) * 8 / seconds
}

// held are the WANs that are held back, and why.
func (b *balance) held() map[string]load.Use {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.uses
}
