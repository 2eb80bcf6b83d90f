// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package lend adds addresses to MPTCP connections of others, as a box that only
// forwards them: it reads the keys in their handshake, and announces to the
// client, in the server's name, an address at which the box takes joins for the
// server (ADD_ADDR, RFC 8684 section 3.4.1).
//
// The rules of Rules show the few packets of a connection that are needed. What
// comes of them is this package's: packets in, packets out, no I/O and no
// clock.
package lend

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"braid/onpath/segment"
)

const (
	// Interval is the least time between two announcements on a subflow, until
	// the client says that it has heard.
	Interval = 200 * time.Millisecond
	// tries is how often an address is announced to a client that says nothing.
	tries = 6
	// maxFlows is how many subflows of a connection are remembered.
	maxFlows = 8
	// perClient is what part of the table one client may fill.
	perClient = 8
)

// steps is how far behind the server's data an announcement lies in sequence
// space, one try after the other. In its place it would lose the race against
// the data that follows, and too far is outside of the client's window.
var steps = [...]uint32{16 << 10, 64 << 10, 256 << 10}

// Flow is a subflow as its client sees it.
type Flow struct{ Client, Server netip.AddrPort }

// Connection is one whose keys have been seen.
type Connection struct {
	First Flow   // its first subflow
	Token uint32 // of the server's key: what the client's joins bear

	client, server Key
	flows          []subflow // that have not ended
	offers         []offer
	told           time.Time
	older, newer   *Connection // of the same client's
}

// subflow is a flow and what is known of it.
type subflow struct {
	Flow
	open    bool // its client has said so
	tracked bool // somebody else has
}

// offer is an address and what has become of it.
type offer struct {
	Address
	tries int
	heard bool
}

// Flows are the subflows that have begun, not ended, and pass by here, the first
// one before the others if it is.
func (c *Connection) Flows() (flows []Flow) {
	for _, s := range c.flows {
		flows = append(flows, s.Flow)
	}
	return flows
}

// Established says whether a flow is open at its client's end. One that is not may
// yet be: its client sends what is lost again.
func (c *Connection) Established(f Flow) bool { s := c.subflow(f); return s != nil && s.open }

func (c *Connection) subflow(f Flow) *subflow {
	for i := range c.flows {
		if c.flows[i].Flow == f {
			return &c.flows[i]
		}
	}
	return nil
}

// Pending says whether there is an address that the client may yet hear of.
func (c *Connection) Pending() bool {
	return slices.ContainsFunc(c.offers, offer.pending)
}

// Awaits says whether the client may yet hear of the address of that id.
func (c *Connection) Awaits(id uint8) bool {
	return slices.ContainsFunc(c.offers, func(o offer) bool { return o.ID == id && o.pending() })
}

// Heard says whether the client has acknowledged the address of that id.
func (c *Connection) Heard(id uint8) bool {
	return slices.ContainsFunc(c.offers, func(o offer) bool { return o.ID == id && o.heard })
}

func (o offer) pending() bool { return !o.heard && o.tries < tries }

// What is what a packet has told.
type What uint8

// The values of What.
const (
	Nothing     What = iota
	Opened           // a connection's keys are known
	Told             // there is a packet to send to the client
	Heard            // the client has acknowledged an address
	Joined           // the client begins another subflow
	Established      // it has the answer to that
	Left             // a subflow has ended, others go on
	Closed           // the last one has; the connection is forgotten
	Needless         // the server's segments need not be shown: nothing is to be announced
)

// Seen is what a packet has told of a connection.
type Seen struct {
	What       What
	Connection *Connection // nil with Nothing, and with Needless if it is none that is known
	Flow       Flow        // on which it came; with Joined the new one
	ID         uint8       // with Told and Heard, of the address
	Packet     []byte      // with Told: to be sent to Flow.Client, from the IP header on
}

// Table remembers connections. It is not safe for concurrent use.
type Table struct {
	size    int
	offer   func(*Connection) []Address
	flows   map[Flow]*Connection
	tokens  map[uint32]*Connection
	clients map[netip.Addr]*client
}

// client is a list of a client's connections. Of too many the oldest goes.
type client struct {
	n              int
	oldest, newest *Connection
}

// NewTable makes a table for at most size connections, of which one client may
// have an eighth. offer says what is to be announced to a new connection's client.
func NewTable(size int, offer func(*Connection) []Address) *Table {
	return &Table{
		size:    size,
		offer:   offer,
		flows:   make(map[Flow]*Connection),
		tokens:  make(map[uint32]*Connection),
		clients: make(map[netip.Addr]*client),
	}
}

// Len is how many connections are remembered.
func (t *Table) Len() int { return len(t.tokens) }

// All are the connections.
func (t *Table) All() iter.Seq[*Connection] {
	return func(yield func(*Connection) bool) {
		for _, c := range t.tokens {
			if !yield(c) {
				return
			}
		}
	}
}

// See takes a packet from its IP header on, of which the payload may be cut
// off.
func (t *Table) See(now time.Time, packet []byte) Seen {
	s, ok := segment.Parse(packet)
	if !ok {
		return Seen{}
	}
	o, ok := parse(&s)
	if !ok {
		return Seen{}
	}
	up, down := Flow{s.Src, s.Dst}, Flow{s.Dst, s.Src} // as it is if sent by client or server
	switch {
	case s.Flags&(segment.FIN|segment.RST) != 0:
		if c := t.flows[up]; c != nil {
			return t.Left(c, up)
		}
		if c := t.flows[down]; c != nil {
			return t.Left(c, down)
		}
	case o.join:
		return t.joined(o.token, up)
	case s.Flags&segment.ACK == 0:
	case o.joined:
		return t.established(up)
	case o.keys:
		return t.opened(o, up)
	case o.echo:
		return t.heard(o.echoed, up)
	case o.dss:
		return t.tell(now, s, down)
	}
	return Seen{}
}

// opened takes the client's third packet, or the first with data, which repeats
// the keys.
func (t *Table) opened(o options, f Flow) Seen {
	if c := t.flows[f]; c != nil {
		if c.client == o.sender && c.server == o.receiver {
			return Seen{}
		}
		t.leave(c, f) // the port is used again
	}
	token := o.receiver.Token()
	if t.tokens[token] != nil {
		return Seen{} // the token is to be unique at the server: one of the two is forged
	}
	c := &Connection{First: f, Token: token, client: o.sender, server: o.receiver, flows: []subflow{{Flow: f, open: true}}}
	t.flows[f], t.tokens[token] = c, c
	t.enter(c)
	for _, a := range t.offer(c) {
		c.offers = append(c.offers, offer{Address: a})
	}
	return Seen{What: Opened, Connection: c, Flow: f}
}

func (t *Table) joined(token uint32, f Flow) Seen {
	c := t.tokens[token]
	if c == nil || t.flows[f] == c { // sent again
		return Seen{}
	}
	if old := t.flows[f]; old != nil {
		t.leave(old, f)
	}
	if len(c.flows) == maxFlows {
		t.leave(c, c.flows[maxFlows-1].Flow)
	}
	c.flows = append(c.flows, subflow{Flow: f})
	t.flows[f] = c
	return Seen{What: Joined, Connection: c, Flow: f}
}

// established takes the third packet of a join, which may come more than once.
func (t *Table) established(f Flow) Seen {
	c := t.flows[f]
	if c == nil || c.Established(f) {
		return Seen{}
	}
	c.subflow(f).open = true
	return Seen{What: Established, Connection: c, Flow: f}
}

func (t *Table) heard(id uint8, f Flow) Seen {
	c := t.flows[f]
	if c == nil {
		return Seen{}
	}
	for i := range c.offers {
		if o := &c.offers[i]; o.ID == id && !o.heard && o.tries > 0 {
			o.heard = true
			return Seen{What: Heard, Connection: c, Flow: f, ID: o.ID}
		}
	}
	return Seen{} // the server's own, or an echo that came twice
}

// tell announces the next address, behind a segment of the server's that has a
// DSS: by it the server says that it knows the client's keys. Before that the
// client would take any ADD_ADDR for the proof that its third packet has
// arrived, and would not send its keys again if that was lost.
func (t *Table) tell(now time.Time, s segment.Segment, f Flow) Seen {
	c := t.flows[f]
	switch {
	case c == nil:
		return Seen{What: Needless, Flow: f}
	case !c.told.IsZero() && now.Sub(c.told) < Interval:
		return Seen{}
	}
	// The kernel takes one at a time.
	next := -1
	for i, o := range c.offers {
		if o.pending() && (next < 0 || o.tries < c.offers[next].tries) {
			next = i
		}
	}
	if next < 0 {
		return Seen{What: Needless, Connection: c, Flow: f}
	}
	o := &c.offers[next]
	step := steps[o.tries%len(steps)]
	o.tries++
	c.told = now
	// Without timestamps: PAWS would drop it, and with IPv6 and a port there is
	// no room. One less is acknowledged than the server has: a NAT that finds
	// the packet invalid answers it by a RST, which the server then ignores.
	told := segment.Segment{Src: s.Src, Dst: s.Dst, Seq: s.End() + step, Ack: s.Ack - 1, Flags: segment.ACK, Window: s.Window,
		Options: o.option(c.server, c.client)}
	return Seen{What: Told, Connection: c, Flow: f, ID: o.ID, Packet: told.Build()}
}

// Again has an address announced to a connection once more, or for the first
// time: its line has returned, or is wanted now. The kernel does not join what
// was announced before an endpoint was deleted and added. One that the client may
// yet hear of stays as it is. The flows are those whose packets are to be shown again.
func (t *Table) Again(c *Connection, a Address) []Flow {
	if t.tokens[c.Token] != c {
		return nil
	}
	switch i := slices.IndexFunc(c.offers, func(o offer) bool { return o.ID == a.ID }); {
	case i < 0:
		c.offers = append(c.offers, offer{Address: a})
	case c.offers[i].Address != a || !c.offers[i].pending():
		c.offers[i] = offer{Address: a}
	}
	return c.Flows()
}

// Withdraw has an address not announced any more. What the client has heard, it
// keeps.
func (t *Table) Withdraw(c *Connection, id uint8) {
	c.offers = slices.DeleteFunc(c.offers, func(o offer) bool { return o.ID == id })
}

// Forget forgets a connection.
func (t *Table) Forget(c *Connection) {
	for len(c.flows) > 0 {
		t.leave(c, c.flows[0].Flow)
	}
}

// Knowledge is what somebody who looks at all packets of a flow knows of it.
type Knowledge uint8

// The values of Knowledge.
const (
	Unknown Knowledge = iota
	Open
	Ended
)

// Learn takes what somebody knows of a flow, and says whether it has ended, unseen
// here: one that is unknown has if it was known to be open.
func (t *Table) Learn(c *Connection, f Flow, k Knowledge) (ended bool) {
	s := c.subflow(f)
	if s == nil {
		return false
	}
	ended = k == Ended || k == Unknown && s.tracked
	s.tracked = k == Open
	return ended
}

// Left takes a flow off that has ended unseen.
func (t *Table) Left(c *Connection, f Flow) Seen {
	t.leave(c, f)
	s := Seen{What: Left, Connection: c, Flow: f}
	if len(c.flows) == 0 {
		s.What = Closed
	}
	return s
}

// leave takes a flow off its connection, and with the last one that off the
// table.
func (t *Table) leave(c *Connection, f Flow) {
	delete(t.flows, f)
	c.flows = slices.DeleteFunc(c.flows, func(s subflow) bool { return s.Flow == f })
	if len(c.flows) == 0 {
		delete(t.tokens, c.Token)
		t.exit(c)
	}
}

// enter puts a connection at its client's end, and keeps the table within its
// bounds.
func (t *Table) enter(c *Connection) {
	addr := c.First.Client.Addr()
	l := t.clients[addr]
	if l == nil {
		l = new(client)
		t.clients[addr] = l
	}
	if c.older = l.newest; c.older != nil {
		c.older.newer = c
	} else {
		l.oldest = c
	}
	l.newest = c
	l.n++
	switch {
	case l.n > max(t.size/perClient, 1):
		t.Forget(l.oldest)
	case len(t.tokens) > t.size:
		for _, l := range t.clients { // anybody's: whose they are that fill the table is not known
			t.Forget(l.oldest)
			return
		}
	}
}

func (t *Table) exit(c *Connection) {
	addr := c.First.Client.Addr()
	l := t.clients[addr]
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		l.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		l.newest = c.older
	}
	c.older, c.newer = nil, nil
	if l.n--; l.n == 0 {
		delete(t.clients, addr)
	}
}
