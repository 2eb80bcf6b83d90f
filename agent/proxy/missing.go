// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"slices"
	"time"

	"braid/agent/config"
	"braid/transport/mptcp"
)

// The kernel makes no subflow again that was closed: by a RST of the carrier,
// by the far end's guard, because its address was away (mptcp_net-next #440).
// To delete and add its endpoint does, for all connections at once, at the price
// that those which have one there lose it for some round trips.
const (
	// joining is given to a subflow that is being made.
	joining = time.Second
	// A connection has an endpoint made anew again after retryLeast, doubled each
	// time up to retryMost: what is refused stays refused. The same holds for an
	// endpoint from which no connection has got a subflow that way.
	retryLeast = 10 * time.Second
	retryMost  = 10 * time.Minute
	// hopeless is for how long a connection may have no subflow although there are
	// lines for one.
	hopeless = 15 * time.Second
	// carries is how many bytes in a look make a connection one that would notice.
	carries = 64 << 10
	// bulk is how many bytes in a look make a download or upload of whose queues
	// much would have to be sent again over another line; and bulkMemory how long
	// it counts that there was one.
	bulk       = 256 << 10
	bulkMemory = 2 * time.Minute
	// thorough is how often also connections are looked at that carry nothing.
	thorough = 10 * time.Second
)

// retry is when something is tried again that has failed so far.
type retry struct {
	next time.Time
	wait time.Duration
}

func (r *retry) tried(now time.Time) {
	r.wait = min(max(2*r.wait, retryLeast), retryMost)
	r.next = now.Add(r.wait)
}

// lack is a subflow that a connection does not have.
type lack struct {
	since time.Time
	retry
}

// missing is what is known of a connection's subflows.
type missing struct {
	bytes    uint64 // at the last look
	lacks    map[netip.Addr]*lack
	helpless time.Time // has had no subflow since; zero: has some
}

// Missing is asked about once a second. It tells which of the endpoints are to
// be made anew, because a connection lacks a subflow from there and none that
// carries much has one; for a connection that has none at all this does not
// count. One that gets none for long is reset.
func (p *Proxy) Missing(now time.Time, eps []mptcp.Endpoint) (anew []mptcp.Endpoint) {
	all := now.Sub(p.looked) >= thorough
	if all {
		p.looked = now
	}
	if at := addresses(eps); !slices.Equal(at, p.lines) {
		p.lines, p.changed = at, now
	}
	count := now.Sub(p.changed) < unsettled
	wanted, used := make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	due := make(map[netip.Addr][]*lack)
	var flows []mptcp.Subflow
	for _, c := range p.table.carriedByMPTCP() {
		bytes := c.pair.AToB.Load() + c.pair.BToA.Load()
		moved := bytes - c.missing.bytes
		c.missing.bytes = bytes
		if moved >= bulk {
			p.bulkAt = now
		}
		calm := moved == 0 && !all && len(c.missing.lacks) == 0
		if calm && !count {
			continue
		}
		var err error
		if flows, err = c.far.AppendSubflows(flows[:0]); err != nil {
			continue // it has just ended, or this kernel cannot tell
		}
		flows = slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State == mptcp.StateSYNSent })
		if p.table.started(c, flows); calm {
			continue
		}
		flows = slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State != mptcp.StateEstablished })
		if moved >= carries {
			for _, f := range flows {
				used[f.Local.Addr()] = true
			}
		}
		if c.attempt.Path == config.PathDirect && len(flows) > 0 {
			continue // the server may well want no more
		}
		lacking, got := c.missing.look(now, c.joinable(eps), flows)
		for a, l := range lacking {
			wanted[a] = wanted[a] || len(flows) == 0
			due[a] = append(due[a], l)
		}
		for _, a := range got {
			delete(p.remade, a)
		}
		if h := c.missing.helpless; !h.IsZero() && now.Sub(h) >= hopeless {
			p.Log.Info("no line carries the connection on", "src", c.src, "dst", c.dest)
			c.far.Reset()
		}
	}
	for a := range p.remade { // what returns begins anew
		if !slices.ContainsFunc(eps, func(e mptcp.Endpoint) bool { return e.Addr == a }) {
			delete(p.remade, a)
		}
	}
	for _, e := range eps {
		urgent, ok := wanted[e.Addr]
		r := p.remade[e.Addr]
		if !ok || used[e.Addr] && !urgent || r != nil && now.Before(r.next) {
			continue
		}
		if r == nil {
			r = new(retry)
		}
		r.tried(now)
		if p.remade == nil {
			p.remade = make(map[netip.Addr]*retry)
		}
		p.remade[e.Addr] = r
		for _, l := range due[e.Addr] {
			l.tried(now)
		}
		anew = append(anew, e)
	}
	return anew
}

func addresses(eps []mptcp.Endpoint) (all []netip.Addr) {
	for _, e := range eps {
		all = append(all, e.Addr)
	}
	return all
}

// Bulk says whether a connection has carried much of late, as far as Missing
// has seen.
func (p *Proxy) Bulk(now time.Time) bool { return now.Sub(p.bulkAt) < bulkMemory }

// look notes which subflows there are, and tells of those that have been lacking
// for long enough, and of those that the connection has got after a try.
func (m *missing) look(now time.Time, eps []mptcp.Endpoint, flows []mptcp.Subflow) (due map[netip.Addr]*lack, got []netip.Addr) {
	var lacks map[netip.Addr]*lack
	for _, e := range eps {
		l := m.lacks[e.Addr]
		if slices.ContainsFunc(flows, func(f mptcp.Subflow) bool { return f.Local.Addr() == e.Addr }) {
			if l != nil && l.wait > 0 {
				got = append(got, e.Addr)
			}
			continue
		}
		if l == nil {
			l = &lack{since: now}
		}
		if lacks == nil {
			lacks, due = make(map[netip.Addr]*lack), make(map[netip.Addr]*lack)
		}
		lacks[e.Addr] = l
		if now.Sub(l.since) >= joining && !now.Before(l.next) {
			due[e.Addr] = l
		}
	}
	m.lacks = lacks
	switch {
	case len(flows) > 0 || len(eps) == 0:
		m.helpless = time.Time{}
	case m.helpless.IsZero():
		m.helpless = now
	}
	return due, got
}

// joinable are the endpoints of which a connection has a subflow each: those
// of its peer's family. The others wait for an address that the peer announces,
// which it does once.
func (c *connection) joinable(eps []mptcp.Endpoint) []mptcp.Endpoint {
	peer := c.far.Remote.Addr()
	return slices.DeleteFunc(slices.Clone(eps), func(e mptcp.Endpoint) bool {
		return e.Addr.Is4() != peer.Is4()
	})
}

// carriedByMPTCP are the connections that may have several subflows.
func (t *table) carriedByMPTCP() (all []*connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := t.oldest; c != nil; c = c.next {
		if c.far != nil && c.far.MPTCP {
			all = append(all, c)
		}
	}
	return all
}
