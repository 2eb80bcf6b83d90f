// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package converter keeps track of which converters answer and serve us, and
// over which legs they are reached. It asks them with Convert's Info (RFC 8803
// section 6.2.3), whose SYN also renews the Fast Open cookie that the
// connections of users need.
package converter

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

const (
	// upInterval is how often one that answers is asked again, by its first way;
	// a failure is told by the connections that meet it.
	upInterval = 10 * time.Minute
	// downInterval is how often a way that fails is asked again at first,
	// spareInterval one over a metered leg beside others that are not.
	downInterval  = 3 * time.Second
	spareInterval = 15 * time.Second
	// What has failed for long is asked ever more rarely, once in a hundredth of
	// that time or in these, unless a connection has missed its converter within
	// missedTime.
	longing     = 100
	maxInterval = time.Minute
	maxMetered  = 10 * time.Minute
	missedTime  = 30 * time.Second
	askTimeout  = 3 * time.Second
	// fullMax bounds how far the delay that a full one asks for is doubled
	// while it stays full.
	fullMax = convert.DefaultRetry
)

// Target is a converter and how to reach it.
type Target struct {
	Name   string
	Ways   []Way  // the preferred first
	Key    string // or
	Cookie string // it knows us by
}

// Way is one of a target's.
type Way struct {
	path.Way
	Metered bool
}

// Targets are the converters of a network as they are to be asked: by every way
// that a connection of a user may take.
func Targets(n *path.Network) (ts []Target) {
	for _, c := range n.Converters {
		t := Target{Name: c.Name, Key: string(c.Key), Cookie: string(c.Cookie)}
		for _, w := range c.Ways {
			metered := slices.ContainsFunc(n.Legs, func(l path.Leg) bool { return l.WAN == w.WAN && l.Source == w.Source && l.Metered })
			t.Ways = append(t.Ways, Way{w, metered})
		}
		if len(t.Ways) > 0 {
			ts = append(ts, t)
		}
	}
	return ts
}

// Status is what is known of a converter.
type Status struct {
	State path.ConverterState
	RTT   time.Duration // of the handshake
	Since time.Time     // of State
	Err   error         // why it is down, full or refuses
	// IPv4 and IPv6 are what it says of the families in which it reaches servers.
	IPv4, IPv6 path.Tri
	// Addresses are what is known of each address by which there is a way.
	Addresses map[netip.AddrPort]AddressStatus

	mptcp bool // it has arrived
}

// AddressStatus is what is known of one address of a converter, at which another
// program may listen than at the next one.
type AddressStatus struct {
	State path.ConverterState
	RTT   time.Duration
	Since time.Time // of State
}

// Monitor asks converters. Changed tells when a state, or what a converter says
// of itself, is another one.
type Monitor struct {
	log      *journal.Log
	dialer   *mptcp.Dialer
	wallet   *proof.Wallet
	changedC chan struct{}
	wakeC    chan struct{}

	mu     sync.Mutex
	peers  map[string]*peer
	missed time.Time // when a connection last found no converter
}

// peer is a converter.
type peer struct {
	target Target
	status Status
	askers map[path.Way]*asker
	full   map[netip.AddrPort]*fullness // of its addresses
	// What it has said last of the families in which it reaches servers.
	ipv4, ipv6 path.Tri
}

// NewMonitor makes a monitor that asks through the dialer and with the wallet
// of users' connections, so that both share what is known of Fast Open, and the
// tickets of converters.
func NewMonitor(log *journal.Log, d *mptcp.Dialer, w *proof.Wallet) *Monitor {
	return &Monitor{
		log: log, dialer: d, wallet: w,
		changedC: make(chan struct{}, 1),
		wakeC:    make(chan struct{}, 1),
		peers:    make(map[string]*peer),
	}
}

// Changed receives when a state has changed.
func (m *Monitor) Changed() <-chan struct{} { return m.changedC }

// Status is what is known of each converter, by name.
func (m *Monitor) Status() map[string]Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]Status, len(m.peers))
	for name, p := range m.peers {
		all[name] = p.status
	}
	return all
}

// Known is what is known of each converter, as decisions are made by.
func (m *Monitor) Known() map[string]path.Converter {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]path.Converter, len(m.peers))
	for name, p := range m.peers {
		c := path.Converter{State: p.status.State, IPv4: p.status.IPv4, IPv6: p.status.IPv6, Answers: make(map[path.Way]path.Answer, len(p.askers))}
		for w, a := range p.askers {
			answer := a.answer
			answer.State = p.state(w, a)
			c.Answers[w] = answer
		}
		all[name] = c
	}
	return all
}

// SetTargets says which converters there are, and their ways. What was known of
// one that goes is forgotten: when it comes back it is asked.
func (m *Monitor) SetTargets(targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	peers := make(map[string]*peer, len(targets))
	for _, t := range targets {
		p := m.peers[t.Name]
		if p == nil || p.target.Key != t.Key || p.target.Cookie != t.Cookie {
			p = &peer{status: Status{Since: time.Now()}, askers: make(map[path.Way]*asker), full: make(map[netip.AddrPort]*fullness)}
		}
		p.target = t
		peers[t.Name] = p
		for _, w := range t.Ways {
			if p.askers[w.Way] == nil {
				p.askers[w.Way] = &asker{m: m, name: t.Name, way: w.Way, key: t.Key, cookie: t.Cookie, asking: true, askC: make(chan struct{}, 1)}
				wake(m.wakeC)
			}
		}
		maps.DeleteFunc(p.askers, func(w path.Way, a *asker) bool {
			gone := !slices.ContainsFunc(t.Ways, func(o Way) bool { return o.Way == w })
			if gone {
				a.end()
			}
			return gone
		})
		m.settleLocked(p)
		p.reckon() // another way may be the first one
	}
	for name, p := range m.peers {
		if peers[name] != p {
			for _, a := range p.askers {
				a.end()
			}
		}
	}
	m.peers = peers
}

// Doubt tells of a connection that a converter has not made by a way, and why.
// It is asked now, unless it has said itself that it is full.
func (m *Monitor) Doubt(name string, w path.Way, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[name]
	if p == nil || p.askers[w] == nil {
		return
	}
	a := p.askers[w]
	switch delay := fullFor(why); {
	case delay > 0:
		p.fill(w.Peer, why).next(delay)
		p.askOthers(a)
		m.settleLocked(p)
		p.reckon()
	case !isAnswer(why) && a.answer.State != path.ConverterDown:
		a.set(path.Answer{})
		a.ask()
	default:
		a.ask()
	}
}

// Missed tells that a connection would have been carried by a converter if one
// had answered.
func (m *Monitor) Missed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed = time.Now()
	for _, p := range m.peers {
		if p.status.State != path.ConverterDown {
			continue
		}
		for _, a := range p.askers {
			if time.Since(a.began) > m.intervalLocked(p, a) {
				a.ask()
			}
		}
	}
}

// Run asks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		m.mu.Lock()
		for _, p := range m.peers {
			for _, a := range p.askers {
				if a.stop == nil {
					var actx context.Context
					actx, a.stop = context.WithCancel(ctx)
					running.Go(func() { a.run(actx) })
				}
			}
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-m.wakeC:
		}
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settleLocked judges a converter by what its ways have come to. One by which
// it has not answered fails once it has answered by another one since, or there
// is no other left to wait for: before that nobody knows which of the two is to
// blame. One that has not answered either is not waited for again: with a
// connection each second there is always one that is being asked.
func (m *Monitor) settleLocked(p *peer) {
	asking := false
	var heard time.Time // last, over any
	for _, a := range p.askers {
		asking = asking || a.asking && !a.suspected && a.answer.State != path.ConverterDown
		if a.heard.After(heard) {
			heard = a.heard
		}
	}
	all := make(tally)
	each := make(map[netip.AddrPort]tally)
	for w, a := range p.askers {
		if a.suspected && (!asking || heard.After(a.began)) {
			a.suspected = false
			a.set(path.Answer{State: path.ConverterDown})
		}
		state := p.state(w, a)
		if each[w.Peer] == nil {
			each[w.Peer] = make(tally)
		}
		each[w.Peer][state]++
		all[state]++
	}
	s := p.status
	s.IPv4, s.IPv6 = p.ipv4, p.ipv6
	if s.State = all.state(s.State); s.State == path.ConverterDown {
		s.IPv4, s.IPv6 = path.Unknown, path.Unknown
	}
	s.RTT, s.Err = 0, nil
	s.Addresses = make(map[netip.AddrPort]AddressStatus, len(each))
	for _, w := range p.target.Ways {
		a := p.askers[w.Way]
		if s.RTT == 0 {
			s.RTT = a.answer.RTT
		}
		if s.Err == nil && s.State != path.ConverterUp && s.State != path.ConverterUnknown {
			if s.Err = p.busy(w.Peer); s.Err == nil {
				s.Err = a.err
			}
		}
		of, known := s.Addresses[w.Peer]
		if !known {
			of = p.status.Addresses[w.Peer]
			of.RTT = 0
			if state := each[w.Peer].state(of.State); state != of.State || of.Since.IsZero() {
				of.State, of.Since = state, time.Now()
			}
		}
		if of.RTT == 0 {
			of.RTT = a.answer.RTT
		}
		s.Addresses[w.Peer] = of
	}
	old := p.status
	if old.State != s.State {
		s.Since = time.Now()
	}
	p.status = s
	for at, of := range s.Addresses {
		if before := old.Addresses[at]; before.State != of.State {
			if len(s.Addresses) > 1 {
				m.log.Info("converter", "name", p.target.Name, "address", at, "state", of.State, "rtt", of.RTT, "error", p.busy(at))
			}
			wake(m.changedC)
		}
	}
	if old.State != s.State || old.IPv4 != s.IPv4 || old.IPv6 != s.IPv6 {
		m.log.Info("converter", "name", p.target.Name, "state", s.State, "rtt", s.RTT, "ipv4", s.IPv4, "ipv6", s.IPv6, "error", s.Err)
		wake(m.changedC)
	}
}

// tally counts ways by their state.
type tally map[path.ConverterState]int

// state is what several ways come to: the best of them, and what it was before
// as long as one is being asked that may be better.
func (t tally) state(before path.ConverterState) path.ConverterState {
	switch {
	case t[path.ConverterUp] > 0:
		return path.ConverterUp
	case t[path.ConverterFull] > 0:
		return path.ConverterFull
	case t[path.ConverterUnknown] > 0: // it will be known soon
		return before
	case t[path.ConverterRefused] > 0:
		return path.ConverterRefused
	}
	return path.ConverterDown
}

// noteLocked takes in what has come of asking by a way.
func (m *Monitor) noteLocked(p *peer, a *asker, s Status, err error) {
	a.asking, a.err = false, err
	switch {
	case err == nil && s.mptcp:
		a.failing = time.Time{}
	case a.failing.IsZero():
		a.failing = time.Now()
	}
	if err != nil && !isAnswer(err) {
		if f := p.full[a.way.Peer]; f != nil && time.Now().After(f.end) {
			f.err = nil
		}
		a.suspected = a.answer.State != path.ConverterDown
		for _, o := range p.askers {
			if o != a && a.suspected && o.answer.State == path.ConverterUp && o.heard.Before(a.began) {
				o.ask()
			}
		}
		m.settleLocked(p)
		return
	}
	a.heard, a.suspected = time.Now(), false
	switch delay := fullFor(err); {
	case delay > 0: // as it was when a connection found it so, or the other way round
		p.fill(a.way.Peer, err).hold(max(delay, p.least(a)))
		if s.IPv4 != path.Unknown || s.IPv6 != path.Unknown {
			p.ipv4, p.ipv6 = s.IPv4, s.IPv6
		}
		a.set(path.Answer{State: path.ConverterUp, MPTCP: s.mptcp, RTT: s.RTT})
	case err != nil:
		for _, o := range p.askers { // which may be of the same mind now
			if a.answer.State != path.ConverterRefused && o.answer.State == path.ConverterUp && o.heard.Before(a.began) {
				o.ask()
			}
		}
		a.set(path.Answer{State: path.ConverterRefused, RTT: s.RTT})
	default:
		if f := p.full[a.way.Peer]; f != nil {
			f.err = nil
		}
		p.ipv4, p.ipv6 = s.IPv4, s.IPv6
		a.set(path.Answer{State: path.ConverterUp, MPTCP: s.mptcp, RTT: s.RTT})
	}
	if p.status.State != path.ConverterUp {
		for _, o := range p.askers { // it is back
			if o.answer.State == path.ConverterDown {
				o.ask()
			}
		}
	}
	m.settleLocked(p)
	p.reckon()
}

// mptcp says whether the converter is reached by MPTCP by any way.
func (p *peer) mptcp() bool {
	for _, a := range p.askers {
		if a.answer.MPTCP {
			return true
		}
	}
	return false
}
