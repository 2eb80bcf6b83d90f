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

	wondered time.Time // when nothing was last seen to come back for what was sent

	// Of the goroutine that runs.
	ways      ways
	source    int  // of sources
	unheard   int  // probes in a row without an answer from it
	echo, tcp conn // nil: to be opened
	receiving sync.WaitGroup
	answerC   chan answer
	id, seq   uint16
	sent      [remembered]time.Time // zero: answered, or never sent
	by        [remembered]int       // in which way
	open      [remembered]bool      // no outcome yet
	last      time.Time             // when the last probe was sent
	started   int
}

func newProber(ctx context.Context, m *Monitor, t Target) *prober {
	ctx, stop := context.WithCancel(ctx)
	p := &prober{
		m: m, target: t, ctx: ctx, stop: stop,
		kickC:   make(chan struct{}, 1),
		answerC: make(chan answer, remembered),
		id:      uint16(rand.Uint32()),
	}
	for _, to := range t.Ways {
		if to.IsValid() {
			p.ways = append(p.ways, way{to: to})
		}
	}
	return p
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
	if !p.target.Ways.any() {
		p.waitOnly()
		return
	}
	defer p.receiving.Wait()
	defer shut(&p.echo)
	defer shut(&p.tcp)
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
		timer.Reset(p.next(now).Sub(now))
	}
}

// waitOnly stands in for probes where there is nobody to ask: a path that was
// away is trusted again once it has been there for long enough.
func (p *prober) waitOnly() {
	for down := true; down; {
		p.m.note(p.target.Leg, func(t *tracker) {
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
	p.m.mu.Lock()
	soon := p.m.trackers[p.target.Leg].soon()
	p.m.mu.Unlock()
	n := p.ways.next(now, soon)
	p.seq++
	i := p.seq % remembered
	p.sent[i], p.by[i], p.open[i], p.last = now, n, true, now
	p.started = min(p.started+1, startProbes)
	w := &p.ways[n]
	err := p.transmit(w)
	if err == nil {
		w.problem = ""
		p.m.mu.Lock()
		if p.suspect && p.asked.IsZero() {
			p.asked = now
		}
		p.m.mu.Unlock()
		return
	}
	if err.Error() != w.problem {
		w.problem = err.Error()
		p.m.log.Warn("probing", "wan", p.target.WAN, "ipv6", p.target.IPv6, "error", err)
	}
}

func (p *prober) transmit(w *way) error {
	c := &p.echo
	if w.tcp() {
		c = &p.tcp
	}
	if *c == nil {
		opened, err := p.m.open(p.ctx, p.target.Device, p.sources()[p.source], w.tcp(), p.id)
		if err != nil {
			return err
		}
		*c = opened
		p.receiving.Go(func() { p.receive(opened) })
	}
	err := (*c).Send(w.to, p.seq)
	if err != nil && !errors.Is(err, syscall.ENOBUFS) {
		// The device may be another one of the same name: a socket stays bound
		// to that which was.
		shut(c)
	}
	return err
}

func shut(c *conn) {
	if *c != nil {
		(*c).Close()
		*c = nil
	}
}

func (p *prober) answered(a answer) {
	i := a.seq % remembered
	w := &p.ways[p.by[i]]
	if a.from != w.to.Addr() || p.sent[i].IsZero() || p.seq-a.seq >= remembered {
		return
	}
	sent, late := p.sent[i], !p.open[i]
	p.sent[i], p.open[i] = time.Time{}, false
	p.ways.heard(w)
	p.unheard = 0
	source := p.sources()[p.source]
	p.m.note(p.target.Leg, func(t *tracker) {
		t.source = source
		// Not what another peer takes that only stands in for a moment.
		if t.samples == 0 || a.from == p.ways.preferred().to.Addr() {
			t.measure(a.from, a.at.Sub(sent))
		}
		t.answered(a.at, sent, late)
	})
}

// expire gives up on probes whose answer is overdue. The answer still counts
// should it come.
func (p *prober) expire(now time.Time) {
	overdue := p.overdue(now)
	for n := range uint16(remembered) {
		i := (p.seq + 1 + n) % remembered // the oldest first
		if !p.open[i] || now.Sub(p.sent[i]) < overdue {
			continue
		}
		p.open[i] = false
		w := &p.ways[p.by[i]]
		w.missed(p.sent[i])
		p.unheard++
		p.m.note(p.target.Leg, func(t *tracker) {
			if w.mute() && !p.ways.allMute() && t.heard.After(w.since) {
				// The way is to blame, not the path; unless that has died just now.
				if w.misses == 2 {
					t.amend()
				}
				p.kick()
				return
			}
			others := p.m.othersAnswerLocked(p.target)
			// Not at the first loss, which is common on a lossy line; nor for
			// ever, which a cellular line would pay for.
			if !others && t.lost > 0 && t.lost < lostInARow {
				p.m.askOthersLocked(p.target.Leg)
			}
			t.missed(now, p.sent[i], others, p.busy)
		})
	}
	p.turn()
}

// sources are where probes may be sent from.
func (p *prober) sources() []netip.Addr {
	all := []netip.Addr{p.target.Source}
	for _, a := range p.target.Others {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// turn goes on to the next source where nobody answers one: of several
// addresses on a device some may lead nowhere, as a modem's own does.
func (p *prober) turn() {
	if n := len(p.sources()); n > 1 && p.unheard >= lostInARow {
		p.source, p.unheard = (p.source+1)%n, 0
		shut(&p.echo)
		shut(&p.tcp)
	}
}

// next is when there is something to do: a probe to send, or one to give up.
func (p *prober) next(now time.Time) time.Time {
	next, overdue := p.last.Add(p.interval()), p.overdue(now)
	for i, open := range p.open {
		if at := p.sent[i].Add(overdue); open && at.Before(next) {
			next = at
		}
	}
	return next
}

func (p *prober) overdue(now time.Time) time.Duration {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.m.trackers[p.target.Leg].overdue(now)
}

func (p *prober) interval() time.Duration {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	d := p.m.trackers[p.target.Leg].interval(p.busy, p.suspect, p.started < startProbes)
	if d == idleInterval && p.ways.preferred().tcp() {
		return idleTCPInterval
	}
	return d
}
