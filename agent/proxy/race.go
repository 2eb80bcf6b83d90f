// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/mptcp"
)

const (
	// patience is how long one attempt runs alone before the next one starts
	// beside it.
	patience = time.Second
	// serverPatience is how long a converter that has been reached may take to
	// reach the server before the next attempt starts. A server whose first SYN
	// got lost answers the second one, which comes after 1 s (RFC 6298).
	serverPatience = 1300 * time.Millisecond
	// dialTimeout bounds all attempts together.
	dialTimeout = 20 * time.Second
)

// race is the search for one far side: attempts in order, each with a head
// start on the next. The first to succeed is it.
type race struct {
	p        *Proxy
	flow     path.Flow
	decision path.Decision
	opening  *opening

	eventC   chan event
	entrants [path.MaxAttempts]entrant // the decision's attempts
	started  int
	running  int
	// waiting are converters that have been reached and have not answered for
	// the server yet; the first of them, silent, have had their time.
	waiting []reached
	silent  int
	faults  []path.Verdict // that converters have answered

	direct, answer, others error // of the server, of converters for it, and the rest
}

// entrant is what has become of an attempt.
type entrant struct {
	turn int  // when it was started, from 1; 0: it was not
	out  bool // it is not to be started, or has reached somebody, or nobody
}

// waits says whether it is left to be started.
func (e entrant) waits() bool { return e.turn == 0 && !e.out }

// event is what becomes of an attempt: an end or, with connected, that a
// converter has been reached.
type event struct {
	entrant *entrant
	reached
	err       error
	connected bool
}

func (p *Proxy) newRace(n *path.Network, f path.Flow, o *opening) *race {
	known, verdicts := p.Memory.Lookup(f.Dest), p.Memory.Verdicts(f.Dest.Addr(), n.Converters)
	d := n.Decide(f, known, verdicts...)
	open, following := p.table.beside(f)
	switch {
	case following:
		n.Follow(&d, f, open)
	case d.Reason == path.ReasonWouldLose && p.Memory.Trial(f.Dest):
		known.Trial = true
		d = n.Decide(f, known, verdicts...)
	}
	if d.Reason == path.ReasonConvertersDown || d.Reason == path.ReasonFallbackReject {
		p.Missed()
	}
	return &race{p: p, flow: f, decision: d, opening: o, eventC: make(chan event, 2*len(d.Attempts()))}
}

// run is to be called with a context that ends soon after it has returned: those
// that came too late go on until then.
func (r *race) run(ctx context.Context) (reached, error) {
	began := time.Now()
	ctx = &bounded{ctx, began.Add(dialTimeout)}
	if !r.start(ctx) {
		return reached{}, errors.New(r.decision.Explain())
	}
	defer r.leave()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for r.running > 0 && !r.settled() {
		select {
		case <-timer.C:
			r.silent = len(r.waiting)
			r.start(ctx)
			if time.Since(began) >= deafAfter && r.answer == nil && r.direct == nil {
				r.deaf() // and may answer yet
			}
			timer.Reset(patience)
		case e := <-r.eventC:
			switch {
			case e.connected:
				e.entrant.out = true
				r.waiting = append(r.waiting, e.reached)
				timer.Reset(serverPatience)
				continue
			case e.err == nil:
				r.running--
				e.entrant.out = true
				r.won(e)
				return e.reached, nil
			}
			r.lost(e)
			r.start(ctx)
			timer.Reset(patience)
		}
	}
	err := r.word()
	if serversWord(r.direct) && !refusal(err) {
		r.deaf()
	}
	return reached{}, err
}

// bounded is a context that ends at a time, too, which its Done does not tell: those
// who dial ask, and those who read have a deadline.
type bounded struct {
	context.Context
	until time.Time
}

// Deadline implements context.Context.
func (b *bounded) Deadline() (time.Time, bool) { return b.until, true }

// Err implements context.Context.
func (b *bounded) Err() error {
	if err := b.Context.Err(); err != nil || time.Now().Before(b.until) {
		return err
	}
	return context.DeadlineExceeded
}

// leave sees to attempts that came too late.
func (r *race) leave() {
	if r.running > 0 {
		go drop(r.eventC, r.running)
	}
}

// drop resets the connections of attempts that came too late.
func drop(eventC <-chan event, running int) {
	for running > 0 {
		e := <-eventC
		if e.connected {
			continue
		}
		if running--; e.err == nil {
			e.conn.Reset()
		}
	}
}

// start starts the next attempt, if there is one.
func (r *race) start(ctx context.Context) bool {
	i := r.next()
	if i < 0 {
		return false
	}
	r.running++
	r.started++
	r.entrants[i].turn = r.started
	go func() { r.eventC <- r.try(ctx, &r.entrants[i], r.decision.Attempts()[i]) }()
	return true
}

// first is that of the attempts that are left, and are so; -1 is none.
func (r *race) first(is func(*path.Attempt) bool) int {
	for i := range r.decision.Attempts() {
		if r.entrants[i].waits() && is(&r.decision.Attempts()[i]) {
			return i
		}
	}
	return -1
}

// strike has the attempts that are left, and are so, not be started.
func (r *race) strike(are func(*path.Attempt) bool) {
	for i := r.first(are); i >= 0; i = r.first(are) {
		r.entrants[i].out = true
	}
}

// next chooses among the attempts that are left; -1 is none. While the server
// is silent towards a converter, to ask it straight comes first, unless a rule
// wants the converter; the same converter is asked again only if the line to it
// seems to have died, lest the server gets two connections where it was only slow.
// What is silent where no converter has talked yet, nor has meanwhile, need not be one.
func (r *race) next() int {
	proven := func(w reached) bool {
		a := w.attempt
		return a.Proven || r.p.Network().Answer(a.Converter.Name, a.Way).State == path.ConverterUp
	}
	if !slices.ContainsFunc(r.waiting, proven) {
		return r.first(func(*path.Attempt) bool { return true })
	}
	if r.decision.Bypass {
		if i := r.first(isDirect); i >= 0 {
			return i
		}
	}
	return r.first(func(a *path.Attempt) bool {
		return !isDirect(a) && !slices.ContainsFunc(r.waiting, func(w reached) bool {
			return w.attempt.Converter == a.Converter && acknowledged(w.conn)
		})
	})
}

func isDirect(a *path.Attempt) bool { return a.Path == config.PathDirect }

// acknowledged says whether all that was sent has arrived.
func acknowledged(c *mptcp.Conn) bool {
	ti, err := c.TCPInfo()
	return err == nil && ti.Unacked == 0
}

// won notes what the attempts that did not succeed say of their converters.
func (r *race) won(w event) {
	server, m := r.flow.Dest.Addr(), r.p.Memory
	for _, v := range r.faults {
		m.Blame(v.Converter, server, v.Fault)
	}
	for i, x := range r.waiting {
		if x.conn == w.conn {
			continue
		}
		if name := x.attempt.Converter.Name; i < r.silent && acknowledged(x.conn) {
			m.Blame(name, server, path.FaultSilent)
			r.p.doubt(name, x.attempt.Way, errSilent)
		}
		x.conn.Reset() // before another far side gets the same opening
	}
	if c := w.attempt.Converter; c != nil {
		m.Acquit(c.Name, server)
	}
	for i, a := range r.decision.Attempts() {
		e := r.entrants[i]
		if e.turn > 0 && e.turn < w.entrant.turn && !e.out && !isDirect(&a) {
			r.p.doubt(a.Converter.Name, a.Way, errOvertaken)
		}
	}
}

// lost notes an attempt that has failed, and gives up those that it spoils.
func (r *race) lost(e event) {
	r.p.Log.Debug("not reached this way", "dst", r.flow.Dest, "path", e.attempt.Path, "wan", e.attempt.WAN, "error", e.err)
	r.running--
	e.entrant.out = true
	for i, w := range r.waiting {
		if e.conn != nil && w.conn == e.conn {
			r.waiting = slices.Delete(r.waiting, i, i+1)
			if i < r.silent {
				r.silent--
			}
			break
		}
	}
	fault := faultOf(e.attempt, e.err)
	switch {
	case isDirect(&e.attempt):
		r.direct = e.err
		return
	case fault != path.FaultNone:
		r.answer = e.err
		r.faults = append(r.faults, path.Verdict{Converter: e.attempt.Converter.Name, Fault: fault})
		if !r.decision.Bypass && !fault.Incapable() {
			r.strike(isDirect)
		}
	default:
		r.others = errors.Join(r.others, e.err)
	}
	if errors.As(e.err, new(convert.Error)) {
		// Over another WAN it would say the same; of itself, at another address it may not.
		r.strike(func(a *path.Attempt) bool {
			return a.Converter == e.attempt.Converter && (fault != path.FaultNone || a.Peer == e.attempt.Peer)
		})
	}
}

// settled says that the server has refused us, and leaves the converters that
// still wait without an answer.
func (r *race) settled() bool {
	return serversWord(r.direct) && r.silent > 0 && r.silent == r.running
}

// word is why there is no far side: what the server itself has said or, if it
// could not be asked, what converters say of it.
func (r *race) word() error {
	switch {
	case r.direct != nil && (serversWord(r.direct) || r.answer == nil):
		if r.others != nil {
			return fmt.Errorf("%w (before that: %v)", r.direct, r.others)
		}
		return r.direct
	case r.answer != nil:
		return r.answer
	}
	return r.others
}

// serversWord says whether a failure to reach the server is more than one of
// the gateway's own.
func serversWord(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.EACCES, syscall.ETIMEDOUT, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// faultOf is what a converter's failure says of it and the server. One that
// refuses to connect to it, and serves us otherwise, may not.
func faultOf(a path.Attempt, err error) path.Fault {
	var e convert.Error
	if !errors.As(err, &e) {
		return path.FaultNone
	}
	switch code, _ := e.ICMPCode(); {
	case e.Code == convert.ConnectionReset:
		return path.FaultRefused
	case e.Code == convert.DestinationUnreachable && code == convert.NoRoute:
		return path.FaultNoRoute
	case e.Code == convert.DestinationUnreachable:
		return path.FaultUnreachable
	case e.Code == convert.NetworkFailure:
		return path.FaultSilent
	case e.Code == convert.NotAuthorized && a.Converter.Trusted():
		return path.FaultProhibited
	}
	return path.FaultNone
}
