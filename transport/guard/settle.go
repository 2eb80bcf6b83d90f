// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"net/netip"
	"slices"
	"time"

	"braid/transport/mptcp"
)

const (
	settleTick = 4 * time.Millisecond
	// still is how long no acknowledgement must have come for all that were
	// under way to have arrived. Paces of a full line last longer than 10 ms.
	still = 16 * time.Millisecond
	// settleLimit bounds the wait, and so does the round trip of the fastest
	// path that is left, with a quarter for what is queued on it.
	settleLimit = 80 * time.Millisecond
)

// joinLimit bounds the wait for subflows: a round trip of a cellular line that
// has slept.
const joinLimit = 400 * time.Millisecond

// Await waits until no connection depends on paths from the addresses any more
// of those that another path is just joining, 400 ms at most. Its far end is
// told over that path that the others are gone; without it, it would find out
// by itself.
func (g *Guard) Await(from []netip.Addr) {
	var left []*mptcp.Conn
	g.mu.Lock()
	for w := range g.conns {
		left = append(left, w.conn)
	}
	g.mu.Unlock()
	var flows []mptcp.Subflow
	for limit := time.Now().Add(joinLimit); ; time.Sleep(settleTick) {
		left = slices.DeleteFunc(left, func(c *mptcp.Conn) bool {
			all, err := c.AppendSubflows(flows[:0])
			flows = all
			return err != nil || slices.ContainsFunc(all, func(f mptcp.Subflow) bool {
				return f.State == mptcp.StateEstablished && !slices.Contains(from, f.Local.Addr())
			})
		})
		if len(left) == 0 || time.Now().After(limit) {
			return
		}
	}
}

// Settle waits, if bulk data is being sent over paths from the addresses,
// until no more acknowledgements come for it, for little more than a round trip
// of the paths that are left, and 80 ms at most. It is for those who are
// about to take away paths that have died: the kernel then sends all that is
// not acknowledged at the level of MPTCP again, in order (6.18). Most of that
// has arrived, only its acknowledgements are on their way over a slower path;
// what is really missing would have to wait behind it.
func (g *Guard) Settle(from []netip.Addr) {
	if len(from) == 0 {
		return
	}
	start := time.Now()
	for senders := g.senders(from, start); len(senders) > 0; {
		time.Sleep(settleTick)
		now := time.Now()
		senders = slices.DeleteFunc(senders, func(s *sender) bool { return s.settled(now) })
	}
}

// sender is a connection with bulk data on a dead path.
type sender struct {
	conn  *mptcp.Conn
	una   uint64
	since time.Time // una has been the same
	limit time.Time
}

// senders lists the connections that have bulk data unacknowledged, a subflow
// from one of the addresses, and another one.
func (g *Guard) senders(from []netip.Addr, now time.Time) (list []*sender) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var flows []mptcp.Subflow
	for w := range g.conns {
		in, err := w.conn.Info()
		if err != nil || in.WriteSeq-in.Una < bulk {
			continue
		}
		if flows, err = w.conn.AppendSubflows(flows[:0]); err != nil {
			continue
		}
		left := slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return slices.Contains(from, f.Local.Addr()) })
		if len(left) == 0 || len(left) == len(flows) {
			continue
		}
		limit := settleLimit
		for _, f := range left {
			limit = min(limit, f.MinRTT*5/4)
		}
		list = append(list, &sender{w.conn, in.Una, now, now.Add(limit)})
	}
	return list
}

func (s *sender) settled(now time.Time) bool {
	in, err := s.conn.Info()
	if err != nil || in.WriteSeq == in.Una || now.After(s.limit) {
		return true
	}
	if in.Una != s.una {
		s.una, s.since = in.Una, now
	}
	return now.Sub(s.since) >= still
}
