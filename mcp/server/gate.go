// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"sync"
	"time"
)

// Limits per source, and for all together.
const (
	maxPending       = 1024  // connections that have not made their request yet
	maxPendingAll    = 16384 //
	answersPerSecond = 100   // error messages
)

// gate keeps strangers from tying up the converter: it bounds, per source,
// the connections whose request is awaited and the rate of error messages.
// The zero value is ready.
type gate struct {
	mu      sync.Mutex
	pending int
	sources map[netip.Prefix]*visitor
}

type visitor struct {
	pending int
	answers int       // in the second that began at
	second  time.Time //
}

// enter admits a connection that has to call leave once its request is in.
func (g *gate) enter(src netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.visitorLocked(src)
	if v.pending >= maxPending || g.pending >= maxPendingAll {
		return false
	}
	v.pending++
	g.pending++
	return true
}

func (g *gate) leave(src netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.visitorLocked(src).pending--
	g.pending--
	g.forgetLocked()
}

// mayAnswer says whether one more error message may go to a source now.
func (g *gate) mayAnswer(src netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.visitorLocked(src)
	if now := time.Now(); now.Sub(v.second) >= time.Second {
		v.second, v.answers = now, 0
	}
	v.answers++
	return v.answers <= answersPerSecond
}

func (g *gate) visitorLocked(src netip.Prefix) *visitor {
	v := g.sources[src]
	if v == nil {
		if g.sources == nil {
			g.sources = make(map[netip.Prefix]*visitor)
		}
		v = new(visitor)
		g.sources[src] = v
	}
	return v
}

// forgetLocked drops the idle visitors once there are many.
func (g *gate) forgetLocked() {
	const many = 4096
	if len(g.sources) < many {
		return
	}
	for src, v := range g.sources {
		if v.pending == 0 && time.Since(v.second) > time.Second {
			delete(g.sources, src)
		}
	}
}
