// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"slices"
	"sort"
	"time"

	"braid/agent/netstate"
	"braid/agent/plan"
)

// awayFor is how long an address is away before what has been open from it is
// given up: netifd takes addresses away and gives them back within that time when
// it is restarted, and nothing has to notice.
const awayFor = time.Second

// addresses are those that WANs have had, with when they were missed first;
// zero: they are there. On a device that is down they are not.
type addresses map[netip.Addr]time.Time

// lost are those that have been away for a while.
func (a *addresses) lost(net netstate.Snapshot, now time.Time) (all []netip.Addr) {
	for addr, since := range *a {
		there := slices.ContainsFunc(net.Links, func(l netstate.Link) bool {
			return l.Up && slices.ContainsFunc(l.Addrs, func(h netstate.Addr) bool { return h.Prefix.Addr() == addr })
		})
		switch {
		case there:
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= awayFor:
			all = append(all, addr)
		}
		(*a)[addr] = since
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Less(all[j]) })
	return all
}

// note is told of a plan that has been applied, and whether nothing starts from what it has lost.
func (a *addresses) note(p plan.Plan, abandoned bool) {
	if abandoned {
		for _, addr := range p.Lost {
			delete(*a, addr)
		}
	}
	if *a == nil {
		*a = make(addresses)
	}
	for _, w := range p.WANs {
		for _, addr := range w.Addrs() {
			if _, known := (*a)[addr]; !known {
				(*a)[addr] = time.Time{}
			}
		}
	}
}
