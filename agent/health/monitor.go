// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"braid/agent/netstate"
	"braid/agent/socket/icmp"
	"braid/transport/journal"
)

// Monitor watches paths. Set targets at any time; Changed tells when a verdict
// is another one.
type Monitor struct {
	log      *journal.Log
	changedC chan struct{}
	wakeC    chan struct{}
	open     func(ctx context.Context, device string, source netip.Addr, tcp bool, id uint16) (conn, error)
	// openSized opens a conn whose probes have a size; nil: there are none.
	openSized func(ctx context.Context, device string, source netip.Addr, id uint16) (sized, error)
	again     func() uint64 // segments that TCP has sent again, over whatever device
	silence   silence

	mu       sync.Mutex
	trackers map[Leg]*tracker // kept while a path is away: its past counts
	probers  map[Leg]*prober
	targets  map[Leg]Target
}

// NewMonitor makes a monitor that watches nothing yet.
func NewMonitor(log *journal.Log) *Monitor {
	return &Monitor{
		log:      log,
		changedC: make(chan struct{}, 1),
		wakeC:    make(chan struct{}, 1),
		open:     open,
		openSized: func(ctx context.Context, device string, source netip.Addr, id uint16) (sized, error) {
			return icmp.Open(ctx, device, source, id)
		},
		again:    new(netstate.Counters).Retransmissions,
		trackers: make(map[Leg]*tracker),
		probers:  make(map[Leg]*prober),
		targets:  make(map[Leg]Target),
	}
}

// Changed receives when a verdict has changed.
func (m *Monitor) Changed() <-chan struct{} { return m.changedC }

// Health is what is known of every path that was ever a target.
func (m *Monitor) Health() map[Leg]Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[Leg]Health, len(m.trackers))
	for p, t := range m.trackers {
		all[p] = t.health()
	}
	for p, t := range m.targets {
		other := Leg{p.WAN, p.Device, !p.IPv6}
		o := m.probers[other]
		switch {
		case t.Ways.any() || o == nil || !o.target.Ways.any():
		case m.trackers[other].mute(o.received):
			all[p] = Health{Verdict: Down, Reason: all[other].Reason}
		case all[other].Unheard: // and of this family nobody can tell either
			h := all[p]
			h.Unheard = true
			all[p] = h
		}
	}
	return all
}

// SetTargets says what is to be probed from now on. A path that comes back
// after it was no target has to prove itself; one that was never seen before
// is trusted.
func (m *Monitor) SetTargets(targets []Target) {
	m.mu.Lock()
	now := time.Now()
	old := m.targets
	m.targets = make(map[Leg]Target, len(targets))
	changed := len(targets) != len(old)
	for _, t := range targets {
		m.targets[t.Leg] = t
		changed = changed || old[t.Leg] != t
		if m.trackers[t.Leg] == nil {
			m.trackers[t.Leg] = new(tracker)
		}
		m.trackers[t.Leg].patient = t.Patient
	}
	for p := range old {
		if _, stays := m.targets[p]; !stays {
			m.trackers[p].gone(now)
			m.stopLocked(p)
		}
	}
	m.mu.Unlock()
	if !changed {
		return
	}
	select {
	case m.wakeC <- struct{}{}:
	default:
	}
}

// Run probes until ctx ends; somebody is to Look meanwhile.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wakeC:
		}
		m.mu.Lock()
		for path, p := range m.probers {
			if t, stays := m.targets[path]; !stays || t != p.target {
				m.stopLocked(path)
			}
		}
		for path, t := range m.targets {
			if m.probers[path] == nil && !t.Quiet {
				p := newProber(ctx, m, t)
				m.probers[path] = p
				running.Go(p.run)
			}
		}
		m.mu.Unlock()
	}
}

// stopLocked ends the probing of a path.
func (m *Monitor) stopLocked(leg Leg) {
	if p := m.probers[leg]; p != nil {
		p.stop()
		delete(m.probers, leg)
	}
}

// note changes a path's tracker, under the lock, and tells of a new verdict.
func (m *Monitor) note(p Leg, change func(*tracker)) {
	m.mu.Lock()
	t := m.trackers[p]
	before := t.health()
	change(t)
	after := t.health()
	m.mu.Unlock()
	if before.MTU != after.MTU {
		m.log.Info("largest packet", "wan", p.WAN, "device", p.Device, "ipv6", p.IPv6, "mtu", after.MTU)
	}
	if before.Verdict != after.Verdict {
		m.log.Info("leg", "wan", p.WAN, "device", p.Device, "ipv6", p.IPv6, "verdict", after.Verdict, "reason", after.Reason, "rtt", after.RTT)
	}
	if before.Verdict != after.Verdict || before.Source != after.Source || before.MTU != after.MTU || before.Doubted != after.Doubted {
		select {
		case m.changedC <- struct{}{}:
		default:
		}
	}
}

// spareLocked says whether there is another WAN to go on with, one that does
// not look dead itself. The last one is not given up for its silence: then it
// is the peer that is silent as likely as not, and nothing would be won.
func (m *Monitor) spareLocked(wan string, now time.Time) bool {
	for path, p := range m.probers {
		t := m.trackers[path]
		silent := p.suspect && !p.asked.IsZero() && now.Sub(p.asked) > t.soon()
		if path.WAN != wan && !t.down && !silent && !(t.alone && t.samples > 0) {
			return true
		}
	}
	return false
}
