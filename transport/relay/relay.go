// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package relay copies bytes between two connections the way two TCP
// endpoints would see each other: half-closes and resets pass through, and an
// idle pair costs two goroutines and its sockets, no buffer.
package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Idle limits. RFC 5382 REQ-5 asks for at least 2 h 4 min for an established
// connection, so that keepalives of 2 h keep it. A half-closed one can be
// given up sooner: REQ-5's 4 min for a transitory one is too short for a
// client that has sent its request and waits for a slow answer.
const (
	DefaultIdle       = 2*time.Hour + 4*time.Minute
	DefaultHalfClosed = 15 * time.Minute
)

// Pair is two connections that are relayed to each other. Set A and B, call
// Run once; the counters may be read at any time.
type Pair struct {
	A, B       *net.TCPConn
	First      []byte        // what has been read of A already: it goes to B before all else
	Idle       time.Duration // 0: DefaultIdle
	HalfClosed time.Duration // 0: DefaultHalfClosed
	Closing    func()        // called before both are closed; nil: nothing is
	// Pace is told of bytes that have been read, and how long to hold them
	// back; may be nil.
	Pace func(n int) time.Duration

	AToB, BToA atomic.Uint64 // bytes written to B, to A

	last       atomic.Int64 // moment of the last byte, ns since start
	start      time.Time
	halfClosed atomic.Bool
	abort      sync.Once
	done       func(error)

	mu    sync.Mutex
	ended int // directions
	err   error
}

// ErrIdle is returned by Run when no byte has moved for the idle limit.
var ErrIdle = errors.New("idle for too long")

// Run relays until both directions have ended, and closes both connections.
// It returns nil after two orderly ends. A reset or any other failure on one
// connection resets the other and is returned, as is ErrIdle.
func (p *Pair) Run() error {
	doneC := make(chan error, 1)
	p.Start(func(err error) { doneC <- err })
	return <-doneC
}

// Start is Run without waiting: done gets what Run would return. The two
// goroutines that it takes are all that an idle pair holds; a caller that has
// been through deep calls gives its stack back by returning.
func (p *Pair) Start(done func(error)) {
	if p.Idle == 0 {
		p.Idle = DefaultIdle
	}
	if p.HalfClosed == 0 {
		p.HalfClosed = DefaultHalfClosed
	}
	p.start = time.Now()
	p.done = done
	first := p.First
	p.First = nil // a pair may live for long
	go func() { p.end(p.copy(p.A, p.B, first, &p.AToB)) }()
	go func() { p.end(p.copy(p.B, p.A, nil, &p.BToA)) }()
}

// end notes the end of one direction.
func (p *Pair) end(err error) {
	p.mu.Lock()
	p.ended++
	if p.err == nil || errors.Is(p.err, net.ErrClosed) {
		p.err = err // of two errors the one that is not an echo of the reset
	}
	last := p.ended == 2
	p.mu.Unlock()
	if last {
		if p.Closing != nil {
			p.Closing()
		}
		p.A.Close()
		p.B.Close()
		p.done(p.err)
	}
}

// reset aborts both connections, which ends both directions.
func (p *Pair) reset() {
	p.abort.Do(func() { Reset(p.A); Reset(p.B) })
}

// copy moves first and then bytes from src to dst until src ends, then closes
// dst's sending side. A failure resets the pair.
func (p *Pair) copy(src, dst *net.TCPConn, first []byte, count *atomic.Uint64) (err error) {
	defer func() {
		if err != nil {
			p.reset()
		}
	}()
	if len(first) > 0 {
		n, err := dst.Write(first)
		count.Add(uint64(n))
		if err != nil {
			return err
		}
	}
	r, err := newReader(src)
	if err != nil {
		return err
	}
	if err := p.extend(src); err != nil {
		return err
	}
	var until time.Time // dst's deadline for writes
	for {
		b, err := r.next()
		if len(b) > 0 {
			if p.Pace != nil {
				time.Sleep(p.Pace(len(b)))
			}
			p.last.Store(int64(time.Since(p.start)))
			err = p.write(dst, b, &until, count)
		}
		r.release()
		switch {
		case err == nil:
		case err == io.EOF:
			p.halfClosed.Store(true)
			// The other direction may be waiting with the long limit.
			limit := time.Now().Add(p.HalfClosed)
			if err := errors.Join(dst.SetReadDeadline(limit), src.SetWriteDeadline(limit)); err != nil {
				return err
			}
			return dst.CloseWrite()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case p.remaining() <= 0:
			return ErrIdle
		default:
			if err := p.extend(src); err != nil {
				return err
			}
		}
	}
}

// write writes all of b to dst. A peer that has stopped reading is held to the
// idle limit, too. until is dst's deadline, which is moved now and then only:
// it is a timer of the runtime's.
func (p *Pair) write(dst *net.TCPConn, b []byte, until *time.Time, count *atomic.Uint64) error {
	for {
		now, limit := time.Now(), p.limit()
		if left := until.Sub(now); left < limit/2 || left > limit {
			*until = now.Add(limit)
			if err := dst.SetWriteDeadline(*until); err != nil {
				return err
			}
		}
		n, err := dst.Write(b)
		count.Add(uint64(n))
		if b = b[n:]; err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if n > 0 {
			p.last.Store(int64(time.Since(p.start)))
		}
		if p.remaining() <= 0 {
			return ErrIdle
		}
		*until = time.Time{}
	}
}

// extend sets src's deadline to where the idle limit will be reached if no
// more bytes move in either direction.
func (p *Pair) extend(src *net.TCPConn) error {
	return src.SetReadDeadline(time.Now().Add(max(p.remaining(), time.Millisecond)))
}

func (p *Pair) limit() time.Duration {
	if p.halfClosed.Load() {
		return p.HalfClosed
	}
	return p.Idle
}

func (p *Pair) remaining() time.Duration {
	return p.limit() - (time.Since(p.start) - time.Duration(p.last.Load()))
}

// Reset closes a connection so that the peer sees a reset: RST on TCP,
// MP_FASTCLOSE (RFC 8684 section 3.5) on MPTCP.
func Reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
