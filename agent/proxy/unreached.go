// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// deafAfter is how long a server may leave every attempt without an answer
	// until it counts as one that cannot be reached: its host's third SYN is due by then (RFC 6298).
	deafAfter = 4 * time.Second
	// fresh is how long ago another connection may have been made for it to show
	// that lines are well.
	fresh = 2 * time.Second
	// unreachedMost are told of at once.
	unreachedMost = 256
)

// unreached are servers that nobody has reached by a line that is well. Their
// LAN hosts have been answered before that was known, and cannot turn to another
// address of the server, as they do (RFC 8305) where nobody answers.
type unreached struct {
	carriedAt atomic.Int64 // when a server was reached last; in ns since the program's start

	mu    sync.Mutex
	dests []netip.AddrPort
}

// started is the program's start, about: clocks may be set.
var started = time.Now()

// Unreached tells of servers that could not be reached since it was last called.
// What is sent to them is better forwarded for a while.
func (p *Proxy) Unreached() []netip.AddrPort {
	p.unreached.mu.Lock()
	defer p.unreached.mu.Unlock()
	dests := p.unreached.dests
	p.unreached.dests = nil
	return dests
}

func (u *unreached) add(dest netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.dests) < unreachedMost && !slices.Contains(u.dests, dest) {
		u.dests = append(u.dests, dest)
	}
}

// deaf notes that the server does not answer, if it has been asked straight too,
// and lines are well: a converter is reached, or just now another server was.
func (r *race) deaf() {
	at := r.p.unreached.carriedAt.Load()
	well := at != 0 && time.Since(started)-time.Duration(at) < fresh || r.answer != nil ||
		r.waits(r.acknowledged)
	for i := range r.decision.Attempts() {
		if well && r.entrants[i].turn > 0 && isDirect(r.attempt(i)) {
			r.p.unreached.add(r.flow.Dest)
			return
		}
	}
}
