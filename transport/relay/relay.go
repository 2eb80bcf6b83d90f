// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package relay copies bytes between two connections the way two TCP
// endpoints would see each other: half-closes and resets pass through. Some
// loops, of which each has a thread while it has pairs, move the bytes of all
// pairs: an idle one costs its sockets and some hundred bytes, no goroutine and
// no buffer.
package relay

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/mptcp"
)

// Idle limits. RFC 5382 REQ-5 asks for at least 2 h 4 min for an established
// connection, so that keepalives of 2 h keep it. A half-closed one can be
// given up sooner: REQ-5's 4 min for a transitory one is too short for a
// client that has sent its request and waits for a slow answer.
const (
	DefaultIdle       = 2*time.Hour + 4*time.Minute
	DefaultHalfClosed = 15 * time.Minute
)

// quiet is for how long no byte has moved when a pair counts as idle: most do
// not live as long, and need none of what idle ones need.
const quiet = time.Minute

// Pair is two connections that are relayed to each other. Set A and B, call
// Start or Run once; the counters may be read at any time.
type Pair struct {
	A, B       *mptcp.Conn
	First      []byte        // what has been read of A already: it goes to B before all else
	Idle       time.Duration // 0: DefaultIdle
	HalfClosed time.Duration // 0: DefaultHalfClosed
	Owner      Owner         // nil: nobody has to be told
	KeepMapped bool          // B is (mptcp.Conn.KeepMapped), once it is idle

	AToB, BToA atomic.Uint64 // bytes written to B, to A
	Sum        *Sum          // of these for several pairs; nil: nobody wants it

	loop  *loop
	id    int32      // among those of the loop
	doneC chan error // Run's
	ends  [2]end     // A, B
	flows [2]flow    // from A, from B

	// Under the loop's lock.
	added   bool
	aborted bool // before it was added

	// Of the loop alone.
	last       time.Duration // when a byte has moved, by its clock
	seen       bool          // by the loop
	queued     bool          // to make a step
	halfClosed bool
	mapped     bool // B is kept so
	over       bool
}

// Owner is whom a pair tells what becomes of it.
type Owner interface {
	// Pace is told of bytes that have been read, and for how long to hold them
	// back.
	Pace(n int) time.Duration
	// Closing is called before both connections are closed.
	Closing()
	// Closed is called in a goroutine of its own when they are; the error is what
	// Run returns.
	Closed(error)
}

// Sum is what several pairs have written, in bytes, each to its B and to its A.
type Sum struct{ AToB, BToA atomic.Uint64 }

// ErrIdle is what a pair ends with when no byte has moved for the idle limit.
var ErrIdle = errors.New("idle for too long")

// Run relays until both directions have ended, and closes both connections.
// It returns nil after two orderly ends. A reset or any other failure on one
// connection resets the other and is returned, as is ErrIdle.
func (p *Pair) Run() error {
	p.doneC = make(chan error, 1)
	p.Start()
	return <-p.doneC
}

// Start is Run without waiting: the owner is told what Run would return. The
// connections are detached; who wants the pair to end resets one of them.
func (p *Pair) Start() {
	if p.Idle == 0 {
		p.Idle = DefaultIdle
	}
	if p.HalfClosed == 0 {
		p.HalfClosed = DefaultHalfClosed
	}
	var err error
	if p.loop, err = next(); err != nil {
		p.A.Reset()
		p.B.Reset()
		p.closed(err)
		return
	}
	a, err := p.A.Detach(p)
	if err != nil { // it has been reset meanwhile
		p.B.Reset()
		p.closed(err)
		return
	}
	b, err := p.B.Detach(p)
	if err != nil {
		p.A.CloseDetached(true)
		p.B.Reset()
		p.closed(err)
		return
	}
	p.ends = [2]end{{fd: a, mptcp: p.A.MPTCP, fallen: p.A.Fallen}, {fd: b, mptcp: p.B.MPTCP, fallen: p.B.Fallen}}
	p.flows[0] = flow{pair: p, from: &p.ends[0], to: &p.ends[1], count: &p.AToB, left: p.First}
	p.flows[1] = flow{pair: p, from: &p.ends[1], to: &p.ends[0], count: &p.BToA}
	if p.Sum != nil {
		p.flows[0].sum, p.flows[1].sum = &p.Sum.AToB, &p.Sum.BToA
	}
	p.First = nil // a pair may live for long
	p.loop.add(p)
}

// Abort has the loop end the pair, as the reset of one of its connections does.
func (p *Pair) Abort() { p.loop.abort(p) }

// step moves what can be moved.
func (p *Pair) step() {
	for i := range p.flows {
		if p.over {
			return
		}
		if p.ends[i].gone {
			p.end(os.NewSyscallError("read", unix.ECONNRESET))
			return
		}
		if err := p.flows[i].step(); err != nil {
			p.end(err)
		}
	}
	if !p.over && p.flows[0].closed && p.flows[1].closed {
		p.end(nil)
	}
}

// end closes both connections, and resets them unless err is nil.
func (p *Pair) end(err error) {
	if p.over {
		return
	}
	p.over = true
	if p.Owner != nil {
		p.Owner.Closing()
	}
	for i := range p.flows {
		p.flows[i].drop()
	}
	p.A.CloseDetached(err != nil)
	p.B.CloseDetached(err != nil)
	p.loop.remove(p)
	p.closed(err)
}

// closed tells that both connections are.
func (p *Pair) closed(err error) {
	if p.doneC != nil {
		p.doneC <- err
	}
	if p.Owner != nil {
		go p.Owner.Closed(err)
	}
}

// moved notes that the pair is alive.
func (p *Pair) moved() { p.last = p.loop.now }

func (p *Pair) limit() time.Duration {
	if p.halfClosed {
		return p.HalfClosed
	}
	return p.Idle
}

// silence is since when no byte has moved.
func (p *Pair) silence() time.Duration { return p.loop.now - p.last }

// remaining is the time until the idle limit.
func (p *Pair) remaining() time.Duration { return p.limit() - p.silence() }

// keep has B kept mapped once the pair is idle, and says in how long that will be
// at the soonest.
func (p *Pair) keep() time.Duration {
	if !p.KeepMapped || p.mapped {
		return DefaultIdle
	}
	if p.silence() < quiet {
		return max(quiet-p.silence(), quiet/slack)
	}
	p.mapped = true
	_ = p.B.KeepMapped(true) // it may be gone already
	return DefaultIdle
}
