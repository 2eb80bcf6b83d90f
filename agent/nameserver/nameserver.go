// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nameserver finds out which DNS servers answer over another WAN than
// their own. A public resolver does, that of a provider may not: most answer
// their own customers alone, and say nothing to others.
package nameserver

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Target is a server and the way on which it is to be asked.
type Target struct {
	Server netip.Addr
	Device string
	Source netip.Addr
}

const (
	port = 53
	// A server is asked tries times, each patience after the other, and then
	// counts as silent until it is asked again.
	tries    = 3
	patience = 400 * time.Millisecond
	again    = 30 * time.Second
)

// Monitor asks servers as long as they are targets. Make one with NewMonitor.
type Monitor struct {
	changedC chan struct{}
	wakeC    chan struct{}

	mu      sync.Mutex
	targets []Target
	silent  map[Target]bool
}

// NewMonitor makes a monitor that asks nobody yet.
func NewMonitor() *Monitor {
	return &Monitor{changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), silent: make(map[Target]bool)}
}

// Changed receives when a server has fallen silent or answers again.
func (m *Monitor) Changed() <-chan struct{} { return m.changedC }

// Silent are the targets that have been asked and gave no answer.
func (m *Monitor) Silent() map[Target]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[Target]bool, len(m.silent))
	for t := range m.silent {
		all[t] = true
	}
	return all
}

// SetTargets says which servers are asked from now on.
func (m *Monitor) SetTargets(targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(targets, m.targets) {
		m.targets = targets
		hint(m.wakeC)
	}
}

// Run asks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	stop := make(map[Target]context.CancelFunc)
	for {
		m.mu.Lock()
		wanted := make(map[Target]bool)
		for _, t := range m.targets {
			if wanted[t] = true; stop[t] == nil {
				ask, cancel := context.WithCancel(ctx)
				stop[t] = cancel
				running.Go(func() { m.follow(ask, t) })
			}
		}
		for t, cancel := range stop {
			if !wanted[t] {
				cancel()
				delete(stop, t)
				delete(m.silent, t)
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

// follow asks one server now and then.
func (m *Monitor) follow(ctx context.Context, t Target) {
	for {
		answers := t.ask(ctx)
		m.mu.Lock()
		if ctx.Err() != nil {
			m.mu.Unlock()
			return
		}
		changed := m.silent[t] == answers
		if m.silent[t] = true; answers {
			delete(m.silent, t)
		}
		m.mu.Unlock()
		if changed {
			hint(m.changedC)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// ask says whether the server answers, be it to refuse: whoever forwards
// questions learns that at once and asks the next one.
func (t Target) ask(ctx context.Context) bool {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0)),
		Control: func(_, _ string, rc syscall.RawConn) error {
			var failed error
			err := rc.Control(func(fd uintptr) { failed = syscall.BindToDevice(int(fd), t.Device) })
			if err != nil {
				return err
			}
			return failed
		},
	}
	c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(t.Server, port).String())
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	id := uint16(rand.Uint32())
	var answer [512]byte
	for range tries {
		if _, err := c.Write(question(id)); err != nil {
			return false
		}
		c.SetReadDeadline(time.Now().Add(patience))
		for ctx.Err() == nil {
			n, err := c.Read(answer[:])
			if err != nil {
				break
			}
			const response = 0x80
			if n >= 12 && binary.BigEndian.Uint16(answer[:]) == id && answer[2]&response != 0 {
				return true
			}
		}
	}
	return false
}

// question asks for the name servers of the root, which every resolver knows
// (RFC 1035, 4.1).
func question(id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	return append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, // recursion desired, one question
		0, 0, 2, 0, 1) // ".", NS, IN
}

func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
