// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
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
	ctx      search
	flow     path.Flow
	decision path.Decision
	opening  opening

	eventC   chan event
	entrants [path.MaxAttempts]entrant // the decision's attempts
	started  int
	running  int
	faults   []path.Verdict // that converters have answered

	direct, answer, others error // of the server, of converters for it, and the rest
}

// entrant is what has become of an attempt.
type entrant struct {
	_      [0]func()   // nobody compares it
	turn   int         // when it was started, from 1; 0: it was not
	out    bool        // it is not to be started, or has reached somebody, or nobody
	conn   *mptcp.Conn // to a converter that has not answered for the server yet; nil: there is none
	silent bool        // which has had its time
}

// event is what becomes of an attempt: an end or, with connected, that a
// converter has been reached, which may happen twice.
type event struct {
	_         [0]func() // nobody compares it
	attempt   int
	conn      *mptcp.Conn
	sent      int // bytes of the LAN host's opening that it has got
	err       error
	connected bool
}

// events is how many of them come of an attempt at most.
const events = 3

func (p *Proxy) newRace(ctx context.Context, f path.Flow) (*race, error) {
	n := p.network.Load()
	if n == nil {
		return nil, errors.New("no network yet")
	}
	known, verdicts := p.Memory.Lookup(f.Dest), p.Memory.Verdicts(f.Dest.Addr(), n.Converters)
	r := &race{p: p, ctx: search{in: ctx}, flow: f, decision: n.Decide(f, known, verdicts...)}
	d := &r.decision
	open, following := p.table.beside(f)
	switch {
	case following:
		n.Follow(d, f, open)
	case d.Reason == path.ReasonWouldLose && p.Memory.Trial(f.Dest):
		known.Trial = true
		*d = n.Decide(f, known, verdicts...)
	}
	if d.Reason == path.ReasonConvertersDown || d.Reason == path.ReasonFallbackReject {
		p.Missed()
	}
	r.eventC = make(chan event, events*len(d.Attempts()))
	return r, nil
}

// timers are stopped ones.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// run finds the far side. Attempts that come too late then go on until the race's context
// ends, which is for who has called it to do.
func (r *race) run() (reached, error) {
	began := time.Now()
	r.ctx.until = began.Add(dialTimeout)
	if !r.start() {
		return reached{}, cmp.Or(r.ctx.Err(), errors.New(r.decision.Explain()))
	}
	defer r.leave()
	timer := timers.Get().(*time.Timer)
	defer timers.Put(timer)
	defer timer.Stop()
	timer.Reset(patience)
	for r.running > 0 && !r.settled() {
		select {
		case <-timer.C:
			for i := range r.entrants {
				r.entrants[i].silent = r.entrants[i].conn != nil
			}
			r.start()
			if time.Since(began) >= deafAfter && r.answer == nil && r.direct == nil {
				r.deaf() // and may answer yet
			}
			timer.Reset(patience)
		case e := <-r.eventC:
			x := &r.entrants[e.attempt]
			x.out = true
			switch {
			case e.connected:
				x.conn, x.silent = e.conn, false
				timer.Reset(serverPatience)
				continue
			case e.err == nil:
				r.running--
				r.won(e)
				return reached{conn: e.conn, attempt: *r.attempt(e.attempt), sent: e.sent}, nil
			}
			r.lost(e)
			r.start()
			timer.Reset(patience)
		}
	}
	err := r.word()
	if serversWord(r.direct) && !refusal(err) {
		r.deaf()
	}
	return reached{}, err
}

// attempt is one of the decision's.
func (r *race) attempt(i int) *path.Attempt { return &r.decision.Attempts()[i] }

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

// start starts the next attempt, if there is one and the search goes on.
func (r *race) start() bool {
	if r.ctx.Err() != nil {
		return false
	}
	i := r.next()
	if i < 0 {
		return false
	}
	r.running++
	r.started++
	r.entrants[i].turn = r.started
	go func() { r.eventC <- r.try(i) }()
	return true
}

// first is that of the attempts that are left, and are so; -1 is none.
func (r *race) first(is func(*path.Attempt) bool) int {
	for i := range r.decision.Attempts() {
		if e := &r.entrants[i]; e.turn == 0 && !e.out && is(r.attempt(i)) {
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
	proven := func(i int) bool {
		a := r.attempt(i)
		return a.Proven || r.p.Network().Answer(a.Converter.Name, a.Way).State == path.ConverterUp
	}
	if !r.waits(proven) {
		return r.first(func(*path.Attempt) bool { return true })
	}
	if r.decision.Bypass {
		if i := r.first(isDirect); i >= 0 {
			return i
		}
	}
	return r.first(func(a *path.Attempt) bool {
		return !isDirect(a) && !r.waits(func(i int) bool {
			return r.attempt(i).Converter == a.Converter && r.acknowledged(i)
		})
	})
}

func isDirect(a *path.Attempt) bool { return a.Path == config.PathDirect }

// waits says whether an attempt waits for its converter's answer, and is so.
func (r *race) waits(is func(attempt int) bool) bool {
	for i := range r.entrants {
		if r.entrants[i].conn != nil && is(i) {
			return true
		}
	}
	return false
}

// acknowledged says whether all that was sent to an attempt's converter has arrived.
func (r *race) acknowledged(attempt int) bool {
	ti, err := r.entrants[attempt].conn.TCPInfo()
	return err == nil && ti.Unacked == 0
}

// won notes what the attempts that did not succeed say of their converters.
func (r *race) won(w event) {
	r.ctx.end(context.Canceled) // what the others are told from now on says nothing of them
	server, m := r.flow.Dest.Addr(), r.p.Memory
	for _, v := range r.faults {
		m.Blame(v.Converter, server, v.Fault)
	}
	if c := r.attempt(w.attempt).Converter; c != nil {
		m.Acquit(c.Name, server)
	}
	for i := range r.decision.Attempts() {
		e, a := &r.entrants[i], r.attempt(i)
		switch {
		case i == w.attempt:
		case e.conn != nil:
			if e.silent && r.acknowledged(i) {
				m.Blame(a.Converter.Name, server, path.FaultSilent)
				r.p.doubt(a.Converter.Name, a.Way, errSilent)
			}
			e.conn.Reset() // before another far side gets the same opening
		case e.turn > 0 && e.turn < r.entrants[w.attempt].turn && !e.out && !isDirect(a):
			r.p.doubt(a.Converter.Name, a.Way, errOvertaken)
		}
	}
}

// lost notes an attempt that has failed, and gives up those that it spoils.
func (r *race) lost(e event) {
	lost := r.attempt(e.attempt)
	r.p.Log.Debug("not reached this way", "dst", r.flow.Dest, "path", lost.Path, "wan", lost.WAN, "error", e.err)
	r.running--
	r.entrants[e.attempt].conn, r.entrants[e.attempt].silent = nil, false
	fault := faultOf(lost, e.err)
	switch {
	case isDirect(lost):
		r.direct = e.err
		return
	case fault != path.FaultNone:
		r.answer = e.err
		r.faults = append(r.faults, path.Verdict{Converter: lost.Converter.Name, Fault: fault})
		if !r.decision.Bypass && !fault.Incapable() {
			r.strike(isDirect)
		}
	default:
		r.others = errors.Join(r.others, e.err)
	}
	if errors.As(e.err, new(convert.Error)) {
		// Over another WAN it would say the same; of itself, at another address it may not.
		r.strike(func(a *path.Attempt) bool {
			return a.Converter == lost.Converter && (fault != path.FaultNone || a.Peer == lost.Peer)
		})
	}
}

// settled says that the server has refused us, and leaves the converters that
// still wait without an answer.
func (r *race) settled() bool {
	silent := 0
	for i := range r.entrants {
		if r.entrants[i].silent {
			silent++
		}
	}
	return silent > 0 && silent == r.running && serversWord(r.direct)
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
func faultOf(a *path.Attempt, err error) path.Fault {
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
