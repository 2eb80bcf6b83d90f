// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"braid/transport/mptcp"
)

// unsettled is for how long after lines have come or gone the subflows of all
// connections are looked at.
const unsettled = 3 * time.Second

// Starts counts the subflows of what is carried by the addresses that they start
// from. The first of a connection counts at once, others when Missing has looked
// at it: within a second of its carrying something, or of lines that come and go,
// and else within ten. To ask costs nothing, however many there are.
func (p *Proxy) Starts() map[netip.Addr]int {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return maps.Clone(p.table.starts)
}

// started takes in the subflows that a connection has been seen to have.
func (t *table) started(c *connection, flows []mptcp.Subflow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := slices.EqualFunc(c.starts, flows, func(a netip.Addr, f mptcp.Subflow) bool { return a == f.Local.Addr() })
	if !c.listed || same {
		return
	}
	at := make([]netip.Addr, len(flows))
	for i, f := range flows {
		at[i] = f.Local.Addr()
	}
	t.startLocked(c, at)
}

// startLocked has the subflows of a connection start there, and not where they
// did.
func (t *table) startLocked(c *connection, at []netip.Addr) {
	if t.starts == nil {
		t.starts = make(map[netip.Addr]int)
	}
	for _, a := range at {
		t.starts[a]++
	}
	for _, a := range c.starts {
		if t.starts[a]--; t.starts[a] == 0 {
			delete(t.starts, a)
		}
	}
	c.starts = at
}
