// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package converter keeps track of which converters answer and serve us. It
// asks them with Convert's Info (RFC 8803 section 6.2.3), whose SYN also
// renews the Fast Open cookie that the connections of users need.
package converter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

const (
	// upInterval is how often one that answers is asked again; a failure is
	// told by the connections that meet it.
	upInterval = 10 * time.Minute
	// downInterval doubles, up to maxInterval, while one does not answer.
	downInterval = time.Second
	maxInterval  = time.Minute
	askTimeout   = 3 * time.Second
	// patience is how long one WAN is asked over alone.
	patience = time.Second
	// fullMax bounds how far the delay that a full one asks for is doubled
	// while it stays full.
	fullMax = convert.DefaultRetry
)

// Target is a converter and how to reach it: over one WAN and, because that
// may have died without anybody knowing yet, over another.
type Target struct {
	Name   string
	Ways   [2]Way // the second may be zero
	Key    string // or
	Cookie string // it knows us by
}

// Targets are the converters of a network as they are to be asked: over the WANs
// that a connection of a user would be tried on.
func Targets(n *path.Network) (ts []Target) {
	for _, c := range n.Converters {
		t := Target{Name: c.Name, Key: string(c.Key), Cookie: string(c.Cookie)}
		left := *n
		for i := range t.Ways {
			a, ok := left.Reach(c.Addrs)
			if !ok {
				break
			}
			t.Ways[i] = Way{Source: a.Source, Peer: a.Peer}
			for left.WANs[0].Name != a.WAN {
				left.WANs = left.WANs[1:]
			}
			left.WANs = left.WANs[1:]
		}
		if t.Ways[0].Peer.IsValid() {
			ts = append(ts, t)
		}
	}
	return ts
}

// Known is what is known of each converter, as decisions are made by.
func (m *Monitor) Known() map[string]path.Converter {
	all := make(map[string]path.Converter)
	for name, s := range m.Status() {
		all[name] = path.Converter{State: s.State, IPv4: s.IPv4, IPv6: s.IPv6}
	}
	return all
}

// Way is a WAN's address and the converter's that fits it.
type Way struct {
	Source netip.Addr
	Peer   netip.AddrPort
}

// Status is what is known of a converter.
type Status struct {
	State path.ConverterState
	RTT   time.Duration // of the handshake
	Since time.Time     // of State
	Err   error         // why it is down, full or refuses
	// IPv4 and IPv6 are what it says of the families in which it reaches servers.
	IPv4, IPv6 path.Tri
}

// Monitor asks converters. Changed tells when a state, or what a converter says
// of itself, is another one.
type Monitor struct {
	log      *journal.Log
	dialer   *mptcp.Dialer
	wallet   *proof.Wallet
	changedC chan struct{}
	wakeC    chan struct{}

	mu       sync.Mutex
	targets  map[string]Target
	statuses map[string]Status
	askers   map[string]*asker
}

// NewMonitor makes a monitor that asks through the dialer and with the wallet
// of users' connections, so that both share what is known of Fast Open, and the
// tickets of converters.
func NewMonitor(log *journal.Log, d *mptcp.Dialer, w *proof.Wallet) *Monitor {
	return &Monitor{
		log: log, dialer: d, wallet: w,
		changedC: make(chan struct{}, 1),
		wakeC:    make(chan struct{}, 1),
		targets:  make(map[string]Target),
		statuses: make(map[string]Status),
		askers:   make(map[string]*asker),
	}
}

// Changed receives when a state has changed.
func (m *Monitor) Changed() <-chan struct{} { return m.changedC }

// Status is what is known of each converter, by name.
func (m *Monitor) Status() map[string]Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.statuses)
}

// SetTargets says which converters there are.
func (m *Monitor) SetTargets(targets []Target) {
	m.mu.Lock()
	m.targets = make(map[string]Target, len(targets))
	for _, t := range targets {
		m.targets[t.Name] = t
		if _, known := m.statuses[t.Name]; !known {
			m.statuses[t.Name] = Status{Since: time.Now()}
		}
	}
	maps.DeleteFunc(m.statuses, func(name string, _ Status) bool {
		_, stays := m.targets[name]
		return !stays
	})
	m.mu.Unlock()
	wake(m.wakeC)
}

// Doubt tells of a connection that a converter has not made, and why. It is
// asked now, unless it has said itself that it is full.
func (m *Monitor) Doubt(name string, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.askers[name]; a != nil {
		select {
		case a.doubtC <- why:
		default:
		}
	}
}

// Run asks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		m.mu.Lock()
		for name, a := range m.askers {
			t, stays := m.targets[name]
			if !stays || t.Ways[0] != a.target.Ways[0] || t.Key != a.target.Key || t.Cookie != a.target.Cookie {
				a.stop()
				delete(m.askers, name)
			}
			a.target = t // a second way that is another one is no reason to ask at once
		}
		for name, t := range m.targets {
			if m.askers[name] == nil {
				actx, stop := context.WithCancel(ctx)
				a := &asker{m: m, name: name, target: t, stop: stop, doubtC: make(chan error, 1)}
				m.askers[name] = a
				running.Go(func() { a.run(actx) })
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

// asker asks one converter.
type asker struct {
	m      *Monitor
	name   string
	target Target // under the monitor's lock
	stop   context.CancelFunc
	doubtC chan error
	plain  atomic.Bool // it does not know convert.Families
}

func (a *asker) run(ctx context.Context) {
	var s Status
	var doubt error
	var full backoff
	for failures := 0; ; {
		wait := upInterval
		if delay := fullFor(doubt); delay > 0 {
			s.State, s.Err = path.ConverterFull, doubt
			wait = full.next(delay)
		} else {
			answer, err := a.ask(ctx)
			if ctx.Err() != nil {
				return
			}
			switch s = outcome(answer, err); s.State {
			case path.ConverterUp:
				failures = 0
			case path.ConverterFull:
				wait = full.next(fullFor(err))
			default:
				wait = min(downInterval<<min(failures, 10), maxInterval)
				failures++
				if s.State == path.ConverterDown {
					a.plain.Store(false) // it may come back as another version
				}
			}
		}
		a.m.set(a.name, s)
		select {
		case <-ctx.Done():
			return
		case doubt = <-a.doubtC:
		case <-time.After(wait):
			doubt = nil
		}
	}
}

// fullFor is how long a converter that says it is full wants to be left alone;
// 0 for any other error.
func fullFor(err error) time.Duration {
	var e convert.Error
	if errors.As(err, &e) && e.Code == convert.ResourceExceeded {
		return e.RetryAfter()
	}
	return 0
}

// backoff doubles the delay of a converter that is full again soon after.
type backoff struct {
	end    time.Time
	lasted time.Duration
}

func (b *backoff) next(delay time.Duration) time.Duration {
	if time.Since(b.end) < b.lasted {
		delay = max(delay, min(2*b.lasted, fullMax))
	}
	b.lasted, b.end = delay, time.Now().Add(delay)
	return delay
}

// outcome is what an answer, or that there is none, says of a converter.
func outcome(answer Status, err error) Status {
	answer.Err = err
	switch {
	case err == nil:
		answer.State = path.ConverterUp
	case fullFor(err) > 0:
		answer.State = path.ConverterFull
	case errors.As(err, new(convert.Error)):
		answer.State = path.ConverterRefused
	default:
		answer.State = path.ConverterDown
	}
	return answer
}

// Try asks a converter once, whether it is one of the targets or not. Since is
// not set.
func (m *Monitor) Try(ctx context.Context, t Target) Status {
	return outcome((&asker{m: m, name: t.Name, target: t}).ask(ctx))
}

// ask asks over the first way and, if there is no answer within a second, over
// the second one as well. That a converter refuses us there, where it may know
// us by another address, counts only if the first way fails.
func (a *asker) ask(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a.m.mu.Lock()
	t := a.target
	a.m.mu.Unlock()
	type answer struct {
		way    int
		status Status
		err    error
	}
	answerC := make(chan answer, len(t.Ways))
	asked := 0
	next := func() {
		if asked < len(t.Ways) && t.Ways[asked].Peer.IsValid() {
			way := asked
			asked++
			go func() {
				s, err := a.askOver(ctx, t.Ways[way], t)
				answerC <- answer{way, s, err}
			}()
		}
	}
	next()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var errs []error
	for ended := 0; ended < asked; {
		select {
		case <-timer.C:
			next()
		case r := <-answerC:
			if r.err == nil || r.way == 0 && errors.As(r.err, new(convert.Error)) {
				return r.status, r.err
			}
			ended++
			errs = append(errs, r.err)
			next()
		}
	}
	return Status{}, errors.Join(errs...)
}

// askOver asks over one way; for the address families, too, unless the
// converter turns out not to know that question.
func (a *asker) askOver(ctx context.Context, w Way, t Target) (Status, error) {
	plain := a.plain.Load()
	s, err := a.askOnce(ctx, w, t, plain)
	if plain || fullFor(err) > 0 || !errors.As(err, new(convert.Error)) {
		return s, err
	}
	s, again := a.askOnce(ctx, w, t, true)
	if again != nil {
		return s, err
	}
	a.plain.Store(true)
	return s, nil
}

// askOnce makes one connection and has the converter say what it can do.
func (a *asker) askOnce(ctx context.Context, w Way, t Target, plain bool) (s Status, err error) {
	m := convert.Message{TLVs: []convert.TLV{convert.Info{}}}
	if !plain {
		m.TLVs = append(m.TLVs, convert.Families{})
	}
	credentials := proof.Credentials{Converter: a.name, Key: []byte(t.Key), Cookie: []byte(t.Cookie)}
	var request proof.Request
	began := time.Now()
	c, err := a.m.dialer.DialEach(ctx, 0, w.Source, w.Peer, func() (_ []byte, err error) {
		request, err = a.m.wallet.Request(credentials, m)
		return request.Bytes, err
	})
	if err != nil {
		return s, err
	}
	defer c.Close()
	s = Status{State: path.ConverterUp, RTT: time.Since(began)}
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	b, err := convert.Receive(c)
	if err == nil {
		err = request.Hear(b)
	}
	var answer convert.Message
	if err == nil {
		answer, _, err = convert.Parse(b)
	}
	if err != nil {
		return s, fmt.Errorf("asking converter %s: %w", a.name, err)
	}
	if refused, ok := convert.Find[convert.Error](answer); ok {
		return s, refused
	}
	if f, ok := convert.Find[convert.Families](answer); ok {
		s.IPv4, s.IPv6 = path.TriOf(f.IPv4), path.TriOf(f.IPv6)
	}
	return s, nil
}

func (m *Monitor) set(name string, s Status) {
	m.mu.Lock()
	old, known := m.statuses[name]
	if !known { // not a target any more
		m.mu.Unlock()
		return
	}
	if s.Since = time.Now(); old.State == s.State {
		s.Since = old.Since
	}
	m.statuses[name] = s
	m.mu.Unlock()
	if old.State != s.State || old.IPv4 != s.IPv4 || old.IPv6 != s.IPv6 {
		m.log.Info("converter", "name", name, "state", s.State, "rtt", s.RTT, "ipv4", s.IPv4, "ipv6", s.IPv6, "error", s.Err)
		wake(m.changedC)
	}
}
