// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// remembered is how many probes are kept to match late answers with.
const remembered = 64

// conn is what probes are sent by: an icmp.Conn.
type conn interface {
	Send(peer netip.Addr, seq uint16) error
	Receive() (seq uint16, from netip.Addr, err error)
	Close() error
}

// prober sends the probes of one target.
type prober struct {
	m      *Monitor
	target Target
	ctx    context.Context
	stop   context.CancelFunc
	kickC  chan struct{}

	// Under the monitor's lock.
	busy    bool      // the device carries traffic
	suspect bool      // it has fallen silent
	asked   time.Time // when the first probe after that was sent

	// Of the goroutine that runs.
	conn      conn // nil: to be opened
	receiving sync.WaitGroup
	answerC   chan answer
	problem   string // the last error logged, so that a lasting one is told once
	id, seq   uint16
	sent      [remembered]time.Time // zero: answered, or never sent
	open      [remembered]bool      // no outcome yet
	last      time.Time             // when the last probe was sent
	started   int
}

func newProber(ctx context.Context, m *Monitor, t Target) *prober {
	ctx, stop := context.WithCancel(ctx)
	return &prober{
		m: m, target: t, ctx: ctx, stop: stop,
		kickC:   make(chan struct{}, 1),
		answerC: make(chan answer, remembered),
		id:      uint16(rand.Uint32()),
	}
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
	defer p.receiving.Wait()
	defer p.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		kicked := false
		select {
		case <-p.ctx.Done():
			return
		case a := <-p.answerC:
			p.answered(a)
		case <-p.kickC:
			kicked = true
		case <-timer.C:
		}
		now := time.Now()
		p.expire(now)
		if kicked || !now.Before(p.last.Add(p.interval())) {
			p.send(now)
		}
		timer.Reset(p.next().Sub(now))
	}
}

// waitOnly stands in for probes where there is nobody to ask: a path that was
// away is trusted again once it has been there for long enough.
func (p *prober) waitOnly() {
	for down := true; down; {
		p.m.note(p.target.Path, func(t *tracker) {
			t.prove(time.Now())
			down = t.down
		})
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(urgentInterval):
		}
	}
}

// receive passes on what c receives until it is closed.
func (p *prober) receive(c conn) {
	for {
		seq, from, err := c.Receive()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// The device is down or an ICMP error came in: the missing answer
			// tells as much.
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(urgentInterval):
			}
			continue
		}
		select {
		case p.answerC <- answer{seq, from, time.Now()}:
		case <-p.ctx.Done():
			return
		}
	}
}

// send sends a probe. When it cannot, that is an answer that never comes.
func (p *prober) send(now time.Time) {
	p.seq++
	i := p.seq % remembered
	p.sent[i], p.open[i], p.last = now, true, now
	p.started = min(p.started+1, startProbes)
	err := p.transmit()
	if err == nil {
		p.problem = ""
		p.m.mu.Lock()
		if p.suspect && p.asked.IsZero() {
			p.asked = now
		}
		p.m.mu.Unlock()
		return
	}
	if err.Error() != p.problem {
		p.problem = err.Error()
		p.m.log.Warn("probing", "wan", p.target.WAN, "ipv6", p.target.IPv6, "error", err)
	}
}

func (p *prober) transmit() error {
	if p.conn == nil {
		c, err := p.m.open(p.ctx, p.target.Device, p.target.Source, p.id)
		if err != nil {
			return err
		}
		p.conn = c
		p.receiving.Go(func() { p.receive(c) })
	}
	err := p.conn.Send(p.target.Peer, p.seq)
	if err != nil && !errors.Is(err, syscall.ENOBUFS) {
		// The device may be another one of the same name: a socket stays bound
		// to that which was.
		p.close()
	}
	return err
}

func (p *prober) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

func (p *prober) answered(a answer) {
	i := a.seq % remembered
	if a.from != p.target.Peer || p.sent[i].IsZero() || p.seq-a.seq >= remembered {
		return
	}
	sent, late := p.sent[i], !p.open[i]
	p.sent[i], p.open[i] = time.Time{}, false
	p.m.note(p.target.Path, func(t *tracker) { t.answered(a.at, sent, late) })
}

// expire gives up on probes whose answer is overdue. The answer still counts
// should it come.
func (p *prober) expire(now time.Time) {
	overdue := p.overdue()
	for n := range uint16(remembered) {
		i := (p.seq + 1 + n) % remembered // the oldest first
		if !p.open[i] || now.Sub(p.sent[i]) < overdue {
			continue
		}
		p.open[i] = false
		p.m.note(p.target.Path, func(t *tracker) {
			others := p.m.othersAnswerLocked(p.target)
			// Not at the first loss, which is common on a lossy line; nor for
			// ever, which a cellular line would pay for.
			if !others && t.lost > 0 && t.lost < lostInARow {
				p.m.askOthersLocked(p.target.Path)
			}
			t.missed(now, p.sent[i], others, p.busy)
		})
	}
}

// next is when there is something to do: a probe to send, or one to give up.
func (p *prober) next() time.Time {
	next, overdue := p.last.Add(p.interval()), p.overdue()
	for i, open := range p.open {
		if at := p.sent[i].Add(overdue); open && at.Before(next) {
			next = at
		}
	}
	return next
}

func (p *prober) overdue() time.Duration {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.m.trackers[p.target.Path].overdue()
}

func (p *prober) interval() time.Duration {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.m.trackers[p.target.Path].interval(p.busy, p.suspect, p.started < startProbes)
}
