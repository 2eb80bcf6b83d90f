// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"braid/agent/kernel/icmp"
)

// remembered is how many probes are kept to match late answers with.
const remembered = 64

// prober sends the probes of one target.
type prober struct {
	m      *Monitor
	target Target
	ctx    context.Context
	stop   context.CancelFunc
	kickC  chan struct{}

	busy       atomic.Bool // the device carries traffic
	suspect    atomic.Bool // it has fallen silent
	asked      atomic.Int64
	lastAnswer time.Time // under the monitor's lock

	sent    [remembered]time.Time
	open    [remembered]bool // no outcome yet
	seq     uint16
	started int
}

func newProber(ctx context.Context, m *Monitor, t Target) *prober {
	ctx, stop := context.WithCancel(ctx)
	return &prober{m: m, target: t, ctx: ctx, stop: stop, kickC: make(chan struct{}, 1)}
}

// kick has a probe sent now.
func (p *prober) kick() {
	select {
	case p.kickC <- struct{}{}:
	default:
	}
}

type answer struct {
	seq  uint16
	from netip.Addr
	at   time.Time
}

func (p *prober) run() {
	if !p.target.Peer.IsValid() {
		p.waitOnly()
		return
	}
	answerC := make(chan answer, remembered)
	var conn *icmp.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case a := <-answerC:
			p.answered(a)
			continue
		case <-p.kickC:
		case <-timer.C:
		}
		p.expire(time.Now())
		if conn == nil {
			var err error
			if conn, err = icmp.Open(p.ctx, p.target.Device, p.target.Source, uint16(rand.Uint32())); err != nil {
				p.m.log.Warn("probing", "wan", p.target.WAN, "error", err)
				timer.Reset(deadInterval)
				continue
			}
			go receive(conn, answerC, p.ctx.Done())
		}
		p.send(conn)
		timer.Reset(p.interval())
	}
}

// waitOnly stands in for probes where there is nobody to ask: a path that was
// away is trusted again once it has been there for long enough.
func (p *prober) waitOnly() {
	for {
		p.m.note(p.target.Path, func(t *tracker) { t.prove(time.Now()) })
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(urgentInterval):
		}
	}
}

func receive(c *icmp.Conn, answerC chan<- answer, doneC <-chan struct{}) {
	for {
		seq, from, err := c.Receive()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// The device is down or an ICMP error came in: the missing answer
			// tells as much.
			select {
			case <-doneC:
				return
			case <-time.After(urgentInterval):
			}
			continue
		}
		select {
		case answerC <- answer{seq, from, time.Now()}:
		case <-doneC:
			return
		}
	}
}

func (p *prober) send(c *icmp.Conn) {
	now := time.Now()
	p.seq++
	i := p.seq % remembered
	p.sent[i], p.open[i] = now, true
	p.started = min(p.started+1, startProbes)
	if p.suspect.Load() {
		p.asked.CompareAndSwap(0, now.UnixNano())
	}
	// An error here, such as no route, is an answer that never comes.
	_ = c.Send(p.target.Peer, p.seq)
}

func (p *prober) answered(a answer) {
	i := a.seq % remembered
	if a.from != p.target.Peer || p.sent[i].IsZero() || p.seq-a.seq >= remembered {
		return
	}
	p.open[i] = false
	rtt := a.at.Sub(p.sent[i])
	p.sent[i] = time.Time{}
	p.m.mu.Lock()
	p.lastAnswer = a.at
	p.m.mu.Unlock()
	p.m.note(p.target.Path, func(t *tracker) { t.answered(a.at, rtt) })
}

// expire gives up on probes whose answer is overdue. The answer still counts
// should it come.
func (p *prober) expire(now time.Time) {
	p.m.mu.Lock()
	overdue := max(2*p.m.trackers[p.target.Path].timeout(), urgentInterval)
	p.m.mu.Unlock()
	for i := range p.open {
		if !p.open[i] || now.Sub(p.sent[i]) < overdue {
			continue
		}
		p.open[i] = false
		others := p.m.othersAnswered(p.target.Path, now)
		if !others {
			p.m.askOthers(p.target.Path)
		}
		p.m.note(p.target.Path, func(t *tracker) { t.missed(now, others) })
	}
}

// interval is how long to wait for the next probe.
func (p *prober) interval() time.Duration {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	t := p.m.trackers[p.target.Path]
	switch {
	case p.suspect.Load():
		return suspectInterval
	case t.down && t.provenFrom.IsZero() && t.lost > lostInARow:
		return deadInterval
	case t.down, t.lost > 0 && !t.alone, p.started < startProbes:
		return urgentInterval
	case t.alone:
		return deadInterval
	case p.busy.Load():
		return busyInterval
	}
	return idleInterval
}
