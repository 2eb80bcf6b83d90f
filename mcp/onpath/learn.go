// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/mcp/config"
)

const (
	// takesFor is how long a client that has joined a lent address is known to
	// take them.
	takesFor = 24 * time.Hour
	// A client that has not joined is tried again after the first of these, and
	// ever more seldom up to the second.
	firstTrial = time.Minute
	lastTrial  = 24 * time.Hour
	// maxClients is how many are remembered, some 100 bytes each.
	maxClients = 65536
)

// clients remembers who takes what is lent. They are told apart by the addresses
// of their first subflows.
type clients struct {
	mu   sync.Mutex
	to   config.LendTo
	seen map[netip.Addr]habit
}

type habit struct {
	joined time.Time     // last
	next   time.Time     // when it is tried again
	pause  time.Duration // that follows the last trial
}

func (cs *clients) set(to config.LendTo) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.to = to
}

// lends says whether an address is to be announced to a client, of which a new
// connection was seen. A trial is one connection.
func (cs *clients) lends(client netip.Addr, now time.Time) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch h, known := cs.seen[client]; {
	case cs.to.All, cs.takesLocked(client, now):
		return true
	case !cs.to.Learned, now.Before(h.next):
		return false
	default:
		if !known && len(cs.seen) >= maxClients {
			for other := range cs.seen { // whoever it is: it will be tried again
				delete(cs.seen, other)
				break
			}
		}
		h.pause = min(max(2*h.pause, firstTrial), lastTrial)
		h.next = now.Add(h.pause)
		cs.seen[client] = h
		return true
	}
}

// takes says whether a client is known, or said, to take what is lent.
func (cs *clients) takes(client netip.Addr, now time.Time) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.takesLocked(client, now)
}

func (cs *clients) takesLocked(client netip.Addr, now time.Time) bool {
	h, known := cs.seen[client]
	return known && now.Sub(h.joined) < takesFor || slices.ContainsFunc(cs.to.Prefixes, func(p netip.Prefix) bool { return p.Contains(client) })
}

// joined notes that a client has joined a lent address.
func (cs *clients) joined(client netip.Addr, now time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.seen[client] = habit{joined: now}
}
