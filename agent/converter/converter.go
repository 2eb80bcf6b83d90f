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
	"time"

	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
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
)

// Target is a converter and how to reach it: over one WAN and, because that
// may have died without anybody knowing yet, over another.
type Target struct {
	Name   string
	Ways   [2]Way // the second may be zero
	Cookie string
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
	Err   error         // why it is down or refuses
}

// Monitor asks converters. Changed tells when a state is another one.
type Monitor struct {
	log      *journal.Log
	dialer   *mptcp.Dialer
	changedC chan struct{}
	wakeC    chan struct{}

	mu       sync.Mutex
	targets  map[string]Target
	statuses map[string]Status
	askers   map[string]*asker
}

// NewMonitor makes a monitor that asks through a dialer, so that both share
// what is known of Fast Open.
func NewMonitor(log *journal.Log, d *mptcp.Dialer) *Monitor {
	return &Monitor{
		log: log, dialer: d,
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

// Doubt has a converter asked now, because a connection could not be made.
func (m *Monitor) Doubt(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.askers[name]; a != nil {
		wake(a.doubtC)
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
			if !stays || t.Ways[0] != a.target.Ways[0] || t.Cookie != a.target.Cookie {
				a.stop()
				delete(m.askers, name)
			}
			a.target = t // a second way that is another one is no reason to ask at once
		}
		for name, t := range m.targets {
			if m.askers[name] == nil {
				actx, stop := context.WithCancel(ctx)
				a := &asker{m, name, t, stop, make(chan struct{}, 1)}
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
	doubtC chan struct{}
}

func (a *asker) run(ctx context.Context) {
	failures := 0
	for {
		rtt, err := a.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := upInterval
		if failures++; err == nil {
			failures = 0
		} else {
			wait = min(downInterval<<min(failures-1, 10), maxInterval)
		}
		a.m.set(a.name, outcome(rtt, err))
		select {
		case <-ctx.Done():
			return
		case <-a.doubtC:
		case <-time.After(wait):
		}
	}
}

// outcome is what an answer, or that there is none, says of a converter.
func outcome(rtt time.Duration, err error) Status {
	s := Status{State: path.ConverterUp, RTT: rtt, Err: err}
	if err != nil {
		s.State = path.ConverterDown
		var refused convert.Error
		if errors.As(err, &refused) {
			s.State = path.ConverterRefused
		}
	}
	return s
}

// Try asks a converter once, whether it is one of the targets or not. Since is
// not set.
func (m *Monitor) Try(ctx context.Context, t Target) Status {
	return outcome((&asker{m: m, name: t.Name, target: t}).ask(ctx))
}

// ask asks over the first way and, if there is no answer within a second, over
// the second one as well. That a converter refuses us there, where it may know
// us by another address, counts only if the first way fails.
func (a *asker) ask(ctx context.Context) (rtt time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a.m.mu.Lock()
	t := a.target
	a.m.mu.Unlock()
	type answer struct {
		way int
		rtt time.Duration
		err error
	}
	answerC := make(chan answer, len(t.Ways))
	asked := 0
	next := func() {
		if asked < len(t.Ways) && t.Ways[asked].Peer.IsValid() {
			way := asked
			asked++
			go func() {
				rtt, err := a.askOver(ctx, t.Ways[way], t.Cookie)
				answerC <- answer{way, rtt, err}
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
				return r.rtt, r.err
			}
			ended++
			errs = append(errs, r.err)
			next()
		}
	}
	return 0, errors.Join(errs...)
}

// askOver makes one connection and has the converter say what it can do.
func (a *asker) askOver(ctx context.Context, w Way, cookie string) (rtt time.Duration, err error) {
	m := convert.Message{TLVs: []convert.TLV{convert.Info{}}}
	if cookie != "" {
		m.TLVs = append(m.TLVs, convert.Cookie{Value: []byte(cookie)})
	}
	b, err := m.Append(nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	c, err := a.m.dialer.Dial(ctx, w.Source, w.Peer, b)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	rtt = time.Since(began)
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	answer, err := convert.Read(c)
	if err != nil {
		return 0, fmt.Errorf("asking converter %s: %w", a.name, err)
	}
	if refused, ok := convert.Find[convert.Error](answer); ok {
		return 0, refused
	}
	return rtt, nil
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
	if old.State != s.State {
		m.log.Info("converter", "name", name, "state", s.State, "rtt", s.RTT, "error", s.Err)
		wake(m.changedC)
	}
}
