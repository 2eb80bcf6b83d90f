// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package load decides, from what the WANs carry, which of those that may be
// used are worth it now: an overflow WAN only while the ones above it are
// full, and one that is much slower than the others only while it brings more
// than it costs.
package load

import (
	"fmt"
	"time"

	"braid/agent/config"
)

// Interval is how often a Balancer wants to be told of the load.
const Interval = 250 * time.Millisecond

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
	// than what it carries.
	slowFactor = 4
	slowMargin = 60 * time.Millisecond
	// A trial lasts trialTime, of which the first part is settling. It is made
	// when the other WANs have been full for joinAfter, and again, after it has
	// failed, when retry, doubling up to maxRetry, has passed.
	trialTime   = 3 * time.Second
	trialSettle = 1500 * time.Millisecond
	retry       = 2 * time.Minute
	maxRetry    = 30 * time.Minute
	// worth is what the sum of rates has to grow by.
	worth = 1.02
)

// Sample is what one WAN carries.
type Sample struct {
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
	down, up  capacity
	fullSince time.Time // all above it are full since
	roomSince time.Time // there is room above it since
	joined    bool      // overflow: is used
	trial     trial
}

// capacity is the rate of one direction, learned when it is not configured.
type capacity struct {
	learned float64
	at      time.Time
}

func (c *capacity) of(configured, rate float64, now time.Time) float64 {
	if configured > 0 {
		return configured
	}
	decayed := c.learned * (1 - min(float64(now.Sub(c.at))/float64(forget), 1)/2)
	if rate > decayed {
		c.learned, c.at = rate, now
		return rate
	}
	return decayed
}

// Update takes in what the WANs carry and says which are held back.
func (b *Balancer) Update(now time.Time, samples []Sample) map[string]Use {
	if b.wans == nil {
		b.wans = make(map[string]*wan)
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
		fill[s.WAN] = max(ratio(s.RX, w.down.of(s.RateDown, s.RX, now)), ratio(s.TX, w.up.of(s.RateUp, s.TX, now)))
	}
	uses := make(map[string]Use, len(samples))
	for _, s := range samples {
		w := b.wans[s.WAN]
		above, slow := b.above(s, samples, fill, uses)
		w.watch(now, above)
		use := Use{}
		if s.Role == config.RoleOverflow {
			use = w.overflow(now)
		}
		if !use.Held {
			use = w.trial.decide(now, slow, w.fullSince, sum)
		}
		uses[s.WAN] = use
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
// whether s is much slower than the best of them.
func (b *Balancer) above(s Sample, samples []Sample, fill map[string]float64, uses map[string]Use) (emptiest float64, slow bool) {
	emptiest, found := 1.0, false
	best := s.RTT
	for _, o := range samples {
		if o.WAN == s.WAN || rank(o.Role) > rank(s.Role) || uses[o.WAN].Held {
			continue
		}
		if o.RTT > 0 {
			best = min(best, o.RTT)
		}
		if rank(o.Role) < rank(s.Role) || o.RTT < s.RTT {
			emptiest, found = min(emptiest, fill[o.WAN]), true
		}
	}
	if !found {
		emptiest = 0
	}
	return emptiest, s.Role != config.RolePrimary && s.RTT > slowFactor*best && s.RTT-best > slowMargin
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

// trial is the state of a WAN that is much slower than the others.
type trial struct {
	passed   bool
	failures int
	next     time.Time // not before
	began    time.Time // a trial runs
	before   average   // sum of rates without it
	during   average   // and with it
	reason   string
}

// decide holds a slow WAN back until a trial shows that it is worth it.
func (t *trial) decide(now time.Time, slow bool, fullSince time.Time, sum float64) Use {
	if !slow {
		if !t.began.IsZero() || t.failures > 0 || t.passed {
			*t = trial{}
		}
		return Use{}
	}
	if t.passed {
		return Use{}
	}
	if t.reason == "" {
		t.reason = "its round trip is much longer than the others', on trial when they are full"
	}
	if t.began.IsZero() {
		t.before.add(sum)
		if since(fullSince, now) < joinAfter || now.Before(t.next) {
			return Use{true, t.reason}
		}
		t.began, t.during = now, average{}
	}
	if now.Sub(t.began) > trialSettle {
		t.during.add(sum)
	}
	if now.Sub(t.began) < trialTime {
		return Use{Reason: "on trial"}
	}
	with, without := t.during.value(), t.before.value()
	t.began = time.Time{}
	if with > worth*without {
		t.passed = true
		return Use{}
	}
	t.next = now.Add(min(retry<<min(t.failures, 8), maxRetry))
	t.failures++
	t.reason = fmt.Sprintf("costs more than it brings: %.1f Mbit/s with it, %.1f without", with/1e6, without/1e6)
	t.before = average{}
	return Use{true, t.reason}
}

// average is the mean of the last values.
type average struct {
	values [8]float64
	n      int
}

func (a *average) add(v float64) {
	a.values[a.n%len(a.values)] = v
	a.n++
}

func (a *average) value() float64 {
	n := min(a.n, len(a.values))
	if n == 0 {
		return 0
	}
	var sum float64
	for _, v := range a.values[:n] {
		sum += v
	}
	return sum / float64(n)
}
