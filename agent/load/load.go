// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package load decides, from what the WANs carry, which of those that may be
// used are worth it now: an overflow WAN only while the ones above it are
// full, and one that is much slower than the others only while it brings more
// than it costs.
package load

import (
	"slices"
	"time"

	"braid/agent/config"
)

// Interval is how often a Meter wants to measure.
const Interval = 200 * time.Millisecond

const (
	// joinAfter is how long the WANs above an overflow WAN must have been full,
	// leaveAfter how long there must have been room on them.
	joinAfter  = time.Second
	leaveAfter = 10 * time.Second
	// full is the part of its rate at which a WAN counts as full, roomy that
	// below which it has room.
	full  = 0.85
	roomy = 0.65
	// noise is a rate, in bit/s, below which nothing is full.
	noise = 500_000
	// forget halves a learned rate in that time, so that a line which has
	// become slower is seen to be full again.
	forget = 24 * time.Hour

	// A WAN whose round trip is slowFactor times the best one's, and longer by
	// slowMargin, is on trial before it is used: what it delays can cost more
	// than what it carries. It is slow no more below recovered of these. Round
	// trips are the least of rttHorizon, or of the half of it at least: those of
	// a line that is full tell of its queue.
	slowFactor = 4
	slowMargin = 60 * time.Millisecond
	recovered  = 0.75
	rttHorizon = time.Minute
	// drained is how long a smoothed round trip still tells of a queue that has
	// gone.
	drained = 5 * time.Second
	// awake is how long after a line's first answer there have been others,
	// which did not wait for a neighbour's address or for a modem to wake up.
	awake = 2 * time.Second
)

// Sample is what one WAN carries.
type Sample struct {
	_                [0]func() // nobody compares it
	WAN              string
	Role             config.Role
	RX, TX           float64 // bit/s
	RateDown, RateUp float64 // bit/s as configured; 0: to be learned
	RTT              time.Duration
}

// Use is whether a WAN is held back, as MPTCP backup, and why.
type Use struct {
	Held   bool
	Reason string
}

// Balancer is the history that decisions need. It knows no clock.
type Balancer struct {
	wans map[string]*wan
}

type wan struct {
	_         [0]func() // nobody compares it
	down, up  capacity
	rtt       minimum
	busy      time.Time // last seen without room
	fullSince time.Time // all above it are full since
	roomSince time.Time // there is room above it since
	joined    bool      // overflow: is used
	slow      bool
	held      bool // as last decided
	trial     trial
}

// away forgets what does not outlast the absence of a WAN.
func (w *wan) away(now time.Time) {
	w.trial.recover(now)
	*w = wan{down: w.down, up: w.up, trial: w.trial}
}

// capacity is the rate of one direction, learned when it is not configured:
// the most that was held for joinAfter. What is more than that for a moment
// is a burst into the buffer of a modem.
type capacity struct {
	learned float64
	at      time.Time
	last    [joinAfter / Interval]float64
	n       int
}

func (c *capacity) of(configured, rate float64, now time.Time) float64 {
	if configured > 0 {
		return configured
	}
	c.last[c.n%len(c.last)] = rate
	c.n++
	held := slices.Min(c.last[:])
	decayed := c.learned * (1 - min(float64(now.Sub(c.at))/float64(forget), 1)/2)
	if held > decayed {
		c.learned, c.at = held, now
		return held
	}
	return decayed
}

// minimum is the least of the last values, in two halves of rttHorizon.
type minimum struct {
	old, cur time.Duration
	first    time.Time // when there was one
	turn     time.Time
	settled  bool // one of them was the line's, or they are of half the horizon
}

func (m *minimum) add(now time.Time, v time.Duration) {
	switch {
	case v == 0: // unknown
	case m.turn.IsZero():
		m.old, m.cur, m.first, m.turn = v, v, now, now
	case now.Sub(m.turn) > rttHorizon/2:
		m.old, m.cur, m.turn = m.cur, v, now
		m.settled = true
	default:
		m.cur = min(m.cur, v)
	}
}

func (m *minimum) value() time.Duration { return min(m.old, m.cur) }

// Update takes in what the WANs carry and says which are held back.
func (b *Balancer) Update(now time.Time, samples []Sample) map[string]Use {
	if b.wans == nil {
		b.wans = make(map[string]*wan)
	}
	for name, w := range b.wans {
		if !slices.ContainsFunc(samples, func(s Sample) bool { return s.WAN == name }) {
			w.away(now)
		}
	}
	var sum float64
	fill := make(map[string]float64)
	for _, s := range samples {
		w := b.wans[s.WAN]
		if w == nil {
			w = new(wan)
			b.wans[s.WAN] = w
		}
		sum += s.RX + s.TX
		f := max(ratio(s.RX, w.down.of(s.RateDown, s.RX, now)), ratio(s.TX, w.up.of(s.RateUp, s.TX, now)))
		fill[s.WAN] = f
		w.rtt.add(now, s.RTT)
		if max(s.RX, s.TX) >= noise && (f == 0 || f >= roomy) {
			w.busy = now
		}
		w.rtt.settled = w.rtt.settled || now.Sub(w.busy) >= drained && now.Sub(w.rtt.first) >= awake
	}
	uses := make(map[string]Use, len(samples))
	for _, s := range samples {
		w := b.wans[s.WAN]
		above, best := b.above(s, samples, fill)
		w.watch(now, above)
		w.slow = s.Role != config.RolePrimary && s.Role != config.RoleBackup && w.isSlow(best)
		use := Use{}
		if s.Role == config.RoleOverflow {
			use = w.overflow(now)
		}
		if use.Held {
			w.trial.stop(now)
		} else {
			use = w.trial.decide(now, w.slow, since(w.fullSince, now), sum)
		}
		uses[s.WAN] = use
	}
	for name, u := range uses {
		b.wans[name].held = u.Held
	}
	return uses
}

func ratio(rate, capacity float64) float64 {
	if rate < noise || capacity == 0 {
		return 0
	}
	return rate / capacity
}

// above is the fill of the emptiest WAN that is to be filled before s, and
// the least round trip of those that are used beside it, 0 if none is known.
func (b *Balancer) above(s Sample, samples []Sample, fill map[string]float64) (emptiest float64, best time.Duration) {
	emptiest, found := 1.0, false
	rtt := b.wans[s.WAN].rtt.value()
	for _, o := range samples {
		w := b.wans[o.WAN]
		if o.WAN == s.WAN || rank(o.Role) > rank(s.Role) || w.held {
			continue
		}
		other := w.rtt.value()
		if other > 0 && (best == 0 || other < best) {
			best = other
		}
		if rank(o.Role) < rank(s.Role) || other < rtt {
			emptiest, found = min(emptiest, fill[o.WAN]), true
		}
	}
	if !found {
		emptiest = 0
	}
	return emptiest, best
}

// isSlow compares the WAN's round trip with the best one's.
func (w *wan) isSlow(best time.Duration) bool {
	factor, margin := float64(slowFactor), float64(slowMargin)
	if w.slow {
		factor, margin = factor*recovered, margin*recovered
	}
	rtt := float64(w.rtt.value())
	return best > 0 && w.rtt.settled && rtt > factor*float64(best) && rtt-float64(best) > margin
}

func rank(r config.Role) int {
	switch r {
	case config.RolePrimary, config.RoleBond:
		return 0
	case config.RoleOverflow:
		return 1
	}
	return 2
}

func (w *wan) watch(now time.Time, fill float64) {
	switch {
	case fill < full:
		w.fullSince = time.Time{}
	case w.fullSince.IsZero():
		w.fullSince = now
	}
	switch {
	case fill > roomy:
		w.roomSince = time.Time{}
	case w.roomSince.IsZero():
		w.roomSince = now
	}
}

func (w *wan) overflow(now time.Time) Use {
	switch {
	case since(w.fullSince, now) >= joinAfter:
		w.joined = true
	case since(w.roomSince, now) >= leaveAfter:
		w.joined = false
	}
	if w.joined {
		return Use{}
	}
	return Use{Held: true, Reason: "there is room on the WANs above it"}
}

func since(t, now time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return now.Sub(t)
}
