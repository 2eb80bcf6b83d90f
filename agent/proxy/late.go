// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"braid/agent/path"
	"braid/onpath/syn"
	"braid/transport/convert"
)

const (
	// acceptTimeout is how long a far side waits for the LAN's handshake.
	acceptTimeout = 5 * time.Second
	// maxHeld bounds the handshakes that are held; more are dropped, and come
	// again.
	maxHeld = 4096
)

// held are the LAN's handshakes that wait for their far side, and far sides
// that wait for their handshake.
type held struct {
	mu    sync.Mutex
	flows map[flowKey]*heldFlow
}

type flowKey struct{ src, dst netip.AddrPort }

type heldFlow struct {
	far   *reached // nil: not reached yet
	timer *time.Timer
}

// Hold answers held SYNs until ctx ends: each is let through once its far side
// has answered, or refused the way the far side refuses. Those that are still
// held then get no answer, and come again.
func (p *Proxy) Hold(ctx context.Context, h *syn.Holder) error {
	defer context.AfterFunc(ctx, func() { h.Close() })()
	return h.Serve(func(s syn.SYN) {
		switch first, ready := p.held.add(flowKey{s.Src, s.Dst}); {
		case ready: // its handshake has got lost
			p.answer(h.Accept, s)
		case first && !p.crowd.enter(s.Src.Addr()):
			p.held.drop(flowKey{s.Src, s.Dst}) // it comes again
		case first:
			go p.decide(ctx, h, s)
		}
	})
}

// decide finds a far side for a SYN and answers it.
func (p *Proxy) decide(ctx context.Context, h *syn.Holder, s syn.SYN) {
	key := flowKey{s.Src, s.Dst}
	r, err := p.reach(ctx, path.Flow{Src: s.Src.Addr(), Dest: s.Dst, Path: p.Wanted(s.Way), Class: s.Class})
	if ctx.Err() != nil {
		p.drop(key)
		if err == nil {
			r.conn.Reset()
		}
		return
	}
	if err == nil {
		p.held.ready(key, &r, func() {
			p.crowd.add(s.Src.Addr(), -p.crowd.waiting())
			r.conn.Reset()
		})
		p.answer(h.Accept, s)
		return
	}
	p.drop(key)
	p.fail(ctx, s.Dst, err)
	p.Log.Debug("not reached", "src", s.Src, "dst", s.Dst, "error", err)
	var answer convert.Error
	errors.As(err, &answer)
	switch {
	case refusal(err):
		p.answer(h.Refuse, s)
	case answer.Code == convert.NetworkFailure, errors.Is(err, context.DeadlineExceeded):
		// The server is silent, and so are we.
	default:
		p.answer(h.Unreachable, s)
	}
}

// drop forgets a handshake that has no far side.
func (p *Proxy) drop(key flowKey) {
	p.held.drop(key)
	p.crowd.add(key.src.Addr(), -p.crowd.waiting())
}

func (p *Proxy) answer(how func(syn.SYN) error, s syn.SYN) {
	if err := how(s); err != nil {
		p.Log.Warn("answering the LAN", "src", s.Src, "dst", s.Dst, "error", err)
	}
}

// add notes a SYN: the first of a flow, or one whose far side is ready.
func (h *held) add(k flowKey) (first, ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.flows[k]; f != nil {
		return false, f.far != nil
	}
	if h.flows == nil {
		h.flows = make(map[flowKey]*heldFlow)
	}
	if len(h.flows) >= maxHeld {
		return false, false
	}
	h.flows[k] = new(heldFlow)
	return true, false
}

// ready keeps a far side for its handshake, for a while; then late is called.
func (h *held) ready(k flowKey, r *reached, late func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flows[k].far = r
	h.flows[k].timer = time.AfterFunc(acceptTimeout, func() {
		if h.take(k) != nil {
			late()
		}
	})
}

// waiting is how many far sides wait for a handshake.
func (h *held) waiting() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if f.far != nil {
			n++
		}
	}
	return n
}

func (h *held) drop(k flowKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.flows, k)
}

// take hands over the far side that waits for a handshake; nil if none does.
func (h *held) take(k flowKey) *reached {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.flows[k]
	if f == nil || f.far == nil {
		return nil
	}
	f.timer.Stop()
	delete(h.flows, k)
	return f.far
}
