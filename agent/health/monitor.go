// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Monitor watches paths. Set targets at any time; Changed tells when a verdict
// is another one.
type Monitor struct {
	log      *slog.Logger
	changedC chan struct{}

	mu       sync.Mutex
	trackers map[Path]*tracker // kept while a path is away: its past counts
	probers  map[Path]*prober
	targets  map[Path]Target
	wakeC    chan struct{}
}

// NewMonitor makes a monitor that watches nothing yet.
func NewMonitor(log *slog.Logger) *Monitor {
	return &Monitor{
		log:      log,
		changedC: make(chan struct{}, 1),
		trackers: make(map[Path]*tracker),
		probers:  make(map[Path]*prober),
		targets:  make(map[Path]Target),
		wakeC:    make(chan struct{}, 1),
	}
}

// Changed receives when a verdict has changed.
func (m *Monitor) Changed() <-chan struct{} { return m.changedC }

// Health is what is known of every path that was ever a target.
func (m *Monitor) Health() map[Path]Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[Path]Health, len(m.trackers))
	for p, t := range m.trackers {
		all[p] = t.health()
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
	m.targets = make(map[Path]Target, len(targets))
	for _, t := range targets {
		m.targets[t.Path] = t
		if m.trackers[t.Path] == nil {
			m.trackers[t.Path] = new(tracker)
		}
		m.trackers[t.Path].patient = t.Patient
	}
	for p := range old {
		if _, stays := m.targets[p]; !stays {
			m.trackers[p].gone(now)
		}
	}
	m.mu.Unlock()
	select {
	case m.wakeC <- struct{}{}:
	default:
	}
}

// Run probes until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { m.watchSilence(ctx) })
	for {
		select {
		case <-ctx.Done():
			m.mu.Lock()
			for _, p := range m.probers {
				p.stop()
			}
			m.mu.Unlock()
			return nil
		case <-m.wakeC:
		}
		m.mu.Lock()
		for path, p := range m.probers {
			if t, stays := m.targets[path]; !stays || t != p.target {
				p.stop()
				delete(m.probers, path)
			}
		}
		for path, t := range m.targets {
			if m.probers[path] == nil {
				p := newProber(ctx, m, t)
				m.probers[path] = p
				running.Go(p.run)
			}
		}
		m.mu.Unlock()
	}
}

// note changes a path's tracker and tells of a new verdict.
func (m *Monitor) note(p Path, change func(*tracker)) {
	m.mu.Lock()
	t := m.trackers[p]
	before := t.health()
	change(t)
	after := t.health()
	m.mu.Unlock()
	if before.Verdict != after.Verdict {
		m.log.Info("path", "wan", p.WAN, "ipv6", p.IPv6, "down", after.Verdict == Down, "reason", after.Reason, "rtt", after.RTT)
		select {
		case m.changedC <- struct{}{}:
		default:
		}
	}
}

// othersAnswered says whether a path other than p has been answered lately.
func (m *Monitor) othersAnswered(p Path, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, other := range m.probers {
		if path != p && now.Sub(other.lastAnswer) < 2*deadInterval {
			return true
		}
	}
	return false
}

// askOthers has every other path probed now, so that othersAnswered knows.
func (m *Monitor) askOthers(p Path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, other := range m.probers {
		if path != p {
			other.kick()
		}
	}
}
