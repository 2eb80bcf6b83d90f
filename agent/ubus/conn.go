// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	helloTimeout = 10 * time.Second
	writeTimeout = 30 * time.Second // a daemon that does not read for so long is taken for dead
	outQueue     = 256              // messages
)

// receiver gets what the daemon sends to one of our objects. It is called from
// the goroutine that reads, and must not block.
type receiver interface {
	receive(cn *conn, m message, at attributes)
	lost()
}

// request waits for its answers. reply is called with conn.mu held, for data
// and for the status that ends the request; it may be nil.
type request struct {
	peer    uint32
	reply   func(k kind, at attributes)
	statusC chan Status
}

// conn is one connection to the daemon, from its hello to its end.
type conn struct {
	nc   net.Conn
	outC chan []byte
	wg   sync.WaitGroup

	// ctx ends with the connection; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	seq      uint16
	requests map[uint16]*request
	objects  map[uint32]receiver
	ids      map[registrant]uint32
}

func dial(ctx context.Context, path string) (*conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to ubus: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	nc.SetReadDeadline(time.Now().Add(helloTimeout))
	hello, err := readMessage(nc, maxReceived)
	if err == nil && hello.kind != kindHello {
		err = fmt.Errorf("message of kind %d: %w", hello.kind, ErrParse)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("waiting for hello at %s: %w", path, err)
	}
	nc.SetReadDeadline(time.Time{})

	cn := &conn{
		nc:       nc,
		outC:     make(chan []byte, outQueue),
		requests: map[uint16]*request{},
		objects:  map[uint32]receiver{},
		ids:      map[registrant]uint32{},
	}
	cn.ctx, cn.cancel = context.WithCancelCause(context.Background())
	context.AfterFunc(cn.ctx, func() { nc.Close() })
	cn.wg.Go(cn.read)
	cn.wg.Go(cn.write)
	return cn, nil
}

func (cn *conn) read() {
	r := bufio.NewReader(cn.nc)
	for {
		m, err := readMessage(r, maxReceived)
		if err != nil {
			cn.cancel(err)
			return
		}
		at := m.attributes()
		switch m.kind {
		case kindStatus, kindData:
			cn.answered(m, at)
		case kindInvoke, kindNotify, kindUnsubscribe:
			cn.mu.Lock()
			r := cn.objects[at.u32(attrObjID)]
			cn.mu.Unlock()
			if r != nil {
				r.receive(cn, m, at)
			} else if m.kind == kindInvoke && !at.flag(attrNoReply) {
				cn.offer(answer(m, at, ErrNotFound))
			}
		}
	}
}

func (cn *conn) write() {
	for {
		select {
		case b := <-cn.outC:
			cn.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := cn.nc.Write(b); err != nil {
				cn.cancel(fmt.Errorf("writing: %w", err))
				return
			}
		case <-cn.ctx.Done():
			return
		}
	}
}

func (cn *conn) answered(m message, at attributes) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	r := cn.requests[m.seq]
	if r == nil || r.peer != m.peer {
		return
	}
	if r.reply != nil {
		r.reply(m.kind, at)
	}
	if m.kind == kindStatus {
		delete(cn.requests, m.seq)
		s := ErrInvalidArgument
		if at.has(attrStatus) {
			s = Status(at.u32(attrStatus))
		}
		r.statusC <- s
	}
}

// lostErr is the error of whatever the end of the connection interrupts.
func (cn *conn) lostErr() error {
	return fmt.Errorf("%w: %w", ErrConnectionFailed, context.Cause(cn.ctx))
}

func (cn *conn) send(ctx context.Context, m message) error {
	if err := m.tooLong(); err != nil {
		return err
	}
	if cn.ctx.Err() != nil {
		return cn.lostErr()
	}
	select {
	case cn.outC <- m.append(nil):
		return nil
	case <-cn.ctx.Done():
		return cn.lostErr()
	case <-ctx.Done():
		return ended(ctx)
	}
}

// offer sends unless that would block.
func (cn *conn) offer(m message) {
	select {
	case cn.outC <- m.append(nil):
	default:
	}
}

// do sends a request and waits for its status.
func (cn *conn) do(ctx context.Context, k kind, peer uint32, body []byte, reply func(kind, attributes)) error {
	r := &request{peer: peer, reply: reply, statusC: make(chan Status, 1)}
	seq, err := cn.reserve(r)
	if err != nil {
		return err
	}
	defer cn.release(seq, r)
	if err := cn.send(ctx, message{kind: k, seq: seq, peer: peer, body: body}); err != nil {
		return err
	}
	select {
	case s := <-r.statusC:
		return s.err()
	case <-ctx.Done():
		err = ended(ctx)
	case <-cn.ctx.Done():
	}
	if cn.ctx.Err() != nil {
		err = cn.lostErr()
	}
	select {
	case s := <-r.statusC: // the answer came with the end
		return s.err()
	default:
		return err
	}
}

func (cn *conn) reserve(r *request) (uint16, error) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for range 1 << 16 {
		cn.seq++
		if cn.seq != 0 && cn.requests[cn.seq] == nil { // 0 is for what is not answered
			cn.requests[cn.seq] = r
			return cn.seq, nil
		}
	}
	return 0, fmt.Errorf("65535 requests are waiting: %w", ErrNoMemory)
}

func (cn *conn) release(seq uint16, r *request) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.requests[seq] == r {
		delete(cn.requests, seq)
	}
}

// ended is the error for a context that is done: at its deadline ErrTimeout too.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
	return ctx.Err()
}

// answer is the status that ends the invocation m.
func answer(m message, at attributes, s Status) message {
	body := appendAttr32(nil, attrStatus, uint32(s))
	body = appendAttr32(body, attrObjID, at.u32(attrObjID))
	return message{kind: kindStatus, seq: m.seq, peer: m.peer, body: body}
}
