// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
	"time"
)

// Probe probes the paths of a WAN now, and returns when each has been answered
// or missed, or when ctx ends. Paths on which there is nobody to ask are left
// out.
func (m *Monitor) Probe(ctx context.Context, wan string) error {
	before := m.outcomes(wan)
	for {
		m.Kick(wan)
		for again := time.Now().Add(urgentInterval); time.Now().Before(again); {
			if settled(before, m.outcomes(wan)) {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(urgentInterval / 25):
			}
		}
	}
}

// Kick has the legs of a WAN probed now, where something hints that they may
// not work for long. It also gives up on what is overdue.
func (m *Monitor) Kick(wan string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, p := range m.probers {
		if path.WAN == wan {
			p.kick(netip.Addr{})
		}
	}
}

// Condemn takes the legs of a WAN down that are probed, for a reason that their
// probes do not know yet. They return as others do: when they have proven
// themselves.
func (m *Monitor) Condemn(wan, reason string) {
	for _, leg := range m.asking(wan) {
		m.note(leg, func(t *tracker) {
			if !t.down {
				t.die(time.Now(), reason)
			}
		})
	}
	m.Kick(wan)
}

// asking are the legs of a WAN that ask somebody.
func (m *Monitor) asking(wan string) (legs []Leg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for leg, p := range m.probers {
		if leg.WAN == wan && p.target.Ways.any() {
			legs = append(legs, leg)
		}
	}
	return legs
}

// outcomes counts, for the paths of a WAN that are probed, the probes whose
// outcome is known.
func (m *Monitor) outcomes(wan string) map[Leg]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := make(map[Leg]int)
	for path, p := range m.probers {
		if path.WAN == wan && p.target.Ways.any() {
			n[path] = m.trackers[path].probes
		}
	}
	return n
}

// settled says whether every path has had an outcome since. One that has come
// meanwhile is new and not waited for.
func settled(before, now map[Leg]int) bool {
	for path, n := range before {
		if after, probed := now[path]; probed && after == n {
			return false
		}
	}
	return true
}
