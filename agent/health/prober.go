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
	"sync/atomic"
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
	kickC  chan netip.Addr // whom to ask now; invalid: whoever is next
	// answers are those that have come and are not taken off what the device has received.
	answers atomic.Uint32

	// Under the monitor's lock.
	busy     bool                     // the device carries traffic
	received time.Time                // when it last received something, as far as was looked
	suspect  bool                     // it has fallen silent
	asked    time.Time                // when the first probe after that was sent
	vain     map[netip.Addr]time.Time // when the first probe after a peer's last answer was sent
	called   int                      // how often other paths were asked about the present silence
	calledAt time.Time
	heardAt  time.Time // when the peer lived by all accounts, while this path was silent

	lastSent time.Time // when a probe was
	sizing   bool      // the size of its packets is being found
	sizedAt  time.Time // when that was begun last
	stuck    bool      // large packets may be
	doubts   int       // of the size that came to nothing, one after the other
	wondered time.Time // when a sign was last followed up that needs no answer

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
		kickC:   make(chan netip.Addr, len(t.Ways)),
		vain:    make(map[netip.Addr]time.Time),
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

// kick has a probe sent now, to a peer if it is valid.
func (p *prober) kick(peer netip.Addr) {
	select {
	case p.kickC <- peer:
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
		kicked, peer := false, netip.Addr{}
		select {
		case <-p.ctx.Done():
			return
		case a := <-p.answerC:
			p.answered(a)
		case peer = <-p.kickC:
			kicked = true
		case <-timer.C:
		}
		now := time.Now()
		p.expire(now)
		if kicked || !now.Before(p.last.Add(p.interval())) {
			p.send(now, peer)
		}
		p.resize(now)
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

// send sends a probe, to a peer if it is valid. When it cannot, that is an
// answer that never comes.
func (p *prober) send(now time.Time, peer netip.Addr) {
	n, counts := p.choose(now, peer)
	p.seq++
	i := p.seq % remembered
	p.sent[i], p.by[i], p.open[i], p.last = now, n, counts, now
	p.started = min(p.started+1, startProbes)
	w := &p.ways[n]
	err := p.transmit(w)
	p.m.mu.Lock()
	if p.vain[w.to.Addr()].IsZero() {
		p.vain[w.to.Addr()] = now
	}
	p.lastSent = now
	if err == nil && p.suspect && p.asked.IsZero() {
		p.asked = now
	}
	p.m.mu.Unlock()
	if err == nil {
		w.problem = ""
		return
	}
	if err.Error() != w.problem {
		w.problem = err.Error()
		p.m.log.Warn("probing", "wan", p.target.WAN, "ipv6", p.target.IPv6, "error", err)
	}
}

// choose says in which way to ask, and whether it counts that it is not
// answered: not where all is well and a peer is asked for the first time.
func (p *prober) choose(now time.Time, peer netip.Addr) (n int, counts bool) {
	if n = p.ways.by(peer); n >= 0 {
		return n, true
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	t := p.m.trackers[p.target.Leg]
	if p.started == startProbes && !p.suspect && t.lost == 0 && t.samples > 0 {
		if n = p.ways.stranger(t.peers); n >= 0 {
			return n, false
		}
	}
	return p.ways.next(now, t.soon()), true
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
	p.answers.Add(1)
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
		delete(p.vain, a.from)
		// Not what another peer takes that only stands in for a moment.
		if t.samples == 0 || a.from == p.ways.preferred().to.Addr() {
			t.measure(a.from, a.at.Sub(sent))
		}
		t.answered(a.at, sent, a.from, late)
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
				for ; w.blamed > 0; w.blamed-- {
					t.amend()
				}
				p.kick(netip.Addr{})
				return
			}
			from := t.lostFrom
			if t.lost == 0 {
				from, p.called = p.sent[i], 0
			}
			receiving := p.received.After(from) && now.Sub(p.received) < lostForReceiving
			_, condemned := p.m.condemnedLocked(p, from, now)
			condemned = condemned || !receiving && p.m.strangersLocked(p)
			// Not at the first loss, which is common on a lossy line.
			if !condemned && t.lost > 0 {
				p.m.callLocked(p, from, now)
			}
			if p.busy { // a line that carries something is not dead for one peer's silence
				condemned = condemned && p.m.silentLocked(p, from, now) > 1
			}
			w.blamed++
			t.missed(now, p.sent[i], condemned, receiving)
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
