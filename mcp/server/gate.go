// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"braid/transport/mptcp"
)

// Limits of strangers.
const (
	maxStrangersSource = 1024  // connections of one source
	maxStrangers       = 16384 // of all, on hosts with 16 GB; less in proportion
	minStrangers       = 512
	dubiousAfter       = 2 * time.Second
	answersPerSecond   = 100   // error messages to one source
	maxAnswered        = 65536 // sources that get any, within a second
)

// gate holds the connections of whom it is not known who they are. There is
// always room for one more: where there are too many, the oldest goes. A client
// has said who it is within a round trip, so it is not the oldest unless the flood
// is faster than that; with its first packet where it can, and never is in the gate.
type gate struct {
	most, mostOfSource int

	mu        sync.Mutex
	strangers list.List // of *stranger, the oldest first
	sources   map[netip.Prefix]*list.List

	second  time.Time            // for which
	answers map[netip.Prefix]int // counts error messages
}

// stranger is a connection in the gate.
type stranger struct {
	conn         *mptcp.Conn
	source       netip.Prefix
	all, sourced *list.Element
	since        time.Time // when it, or its request, had come
}

// newGate makes a gate for as many strangers as the host has memory for.
func newGate() gate {
	most := max(minStrangers, min(mptcp.Confined(), maxStrangers))
	return gate{most: most, mostOfSource: min(most/2, maxStrangersSource)}
}

// enter lets a connection in until it leaves. The connection that has to go for
// it is the caller's to reset.
func (g *gate) enter(c *mptcp.Conn, source netip.Prefix) (st *stranger, oldest *mptcp.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.sources[source]
	if from == nil {
		if g.sources == nil {
			g.sources = make(map[netip.Prefix]*list.List)
		}
		from = list.New()
		g.sources[source] = from
	}
	var out *stranger
	switch {
	case from.Len() >= g.mostOfSource:
		out = from.Front().Value.(*stranger)
	case g.strangers.Len() >= g.most:
		out = g.strangers.Front().Value.(*stranger)
	}
	st = &stranger{conn: c, source: source, since: time.Now()}
	st.all, st.sourced = g.strangers.PushBack(st), from.PushBack(st)
	if out == nil {
		return st, nil
	}
	g.removeLocked(out)
	return st, out.conn
}

// shed takes out the oldest connection, which is the caller's to reset; nil if there
// is none.
func (g *gate) shed() (oldest *mptcp.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.strangers.Front()
	if first == nil {
		return nil
	}
	st := first.Value.(*stranger)
	g.removeLocked(st)
	return st.conn
}

// heard notes that a connection's request has come, and is a stranger's.
func (g *gate) heard(st *stranger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	st.since = time.Now()
}

// dubious are the connections whose request could have come, or who could have
// read the answer.
func (g *gate) dubious(now time.Time) (list []*mptcp.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.strangers.Front(); e != nil; e = e.Next() {
		if st := e.Value.(*stranger); now.Sub(st.since) > dubiousAfter {
			list = append(list, st.conn)
		}
	}
	return list
}

// leave may be called more than once.
func (g *gate) leave(st *stranger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeLocked(st)
}

func (g *gate) removeLocked(st *stranger) {
	if st.all == nil {
		return
	}
	from := g.sources[st.source]
	g.strangers.Remove(st.all)
	from.Remove(st.sourced)
	st.all = nil
	if from.Len() == 0 {
		delete(g.sources, st.source)
	}
}

// waiting is how many are in the gate.
func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.strangers.Len()
}

// mayAnswer says whether one more error message may go to a source of strangers
// now.
func (g *gate) mayAnswer(source netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.second) >= time.Second {
		g.second, g.answers = now, make(map[netip.Prefix]int)
	}
	n := g.answers[source]
	if n >= answersPerSecond || len(g.answers) >= maxAnswered {
		return false
	}
	g.answers[source] = n + 1
	return true
}
