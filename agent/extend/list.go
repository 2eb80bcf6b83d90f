// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package extend

import (
	"net/netip"
	"sort"
	"time"

	"braid/onpath/conntrack"
	"braid/onpath/lend"
)

// Connection is one that has been extended.
type Connection struct {
	ID       uint64
	Src, Dst netip.AddrPort
	Began    time.Time // that it was known
	Subflows []Subflow
}

// Subflow is one of a connection, that of the host's own opening first.
type Subflow struct {
	Mark uint32 // of its WAN
	flow lend.Flow
}

// Ask is what connection tracking knows of a subflow now.
func (s Subflow) Ask() (conntrack.Entry, error) { return conntrack.Find(s.flow.Client, s.flow.Server) }

// Connections are those that have been extended and are open, the one that has
// been known for the longest time first.
func (e *Extender) Connections() (list []Connection) {
	e.lender.Do(func(*lend.Table) {
		now := time.Now()
		for c, k := range e.known {
			if !k.extended {
				continue
			}
			x := Connection{ID: k.id, Src: c.First.Client, Dst: c.First.Server, Began: k.began}
			for _, f := range c.Flows() {
				if f == c.First {
					x.Subflows = append(x.Subflows, Subflow{k.first, f})
				} else if what, ours := e.added(now, c, f); ours {
					x.Subflows = append(x.Subflows, Subflow{what.wan, f})
				}
			}
			list = append(list, x)
		}
	})
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}
