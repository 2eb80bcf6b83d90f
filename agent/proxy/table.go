// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/guard"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

// Stats counts since the start.
type Stats struct {
	_           [0]func()     // nobody compares it
	Total       atomic.Uint64 // LAN connections taken
	Convert     atomic.Uint64 // carried through a converter
	Direct      atomic.Uint64 // carried straight to the server
	TCPFallback atomic.Uint64 // of those carried, without MPTCP
	Refused     atomic.Uint64 // by a converter
	Failed      atomic.Uint64 // not carried at all
	// Bytes from (AToB) and to (BToA) the LAN: of connections through a converter,
	// and of those without one.
	Converted, Straight relay.Sum
}

// sum is what the bytes of a connection are counted in that is carried so.
func (s *Stats) sum(p config.Path) *relay.Sum {
	if p == config.PathDirect {
		return &s.Straight
	}
	return &s.Converted
}

// Connection is a LAN connection that is being carried.
type Connection struct {
	ID        uint64
	Src, Dst  netip.AddrPort
	Path      config.Path
	Converter string // name, with convert
	WAN       string // of the first subflow
	Started   time.Time
	Up, Down  uint64       // bytes from and to the LAN
	Starts    []netip.Addr // of its subflows, as by Starts
	Conn      *mptcp.Conn
}

// Stats are the proxy's counters.
func (p *Proxy) Stats() *Stats { return &p.stats }

// Bytes are those of all connections since the start.
type Bytes struct {
	Up, Down uint64 // from and to the LAN
	Direct   uint64 // of both, those that went past every converter
}

// failing are the failures since a connection was last carried, as far as they
// tell of us and not of a server: several destinations in a row.
type failing struct {
	mu    sync.Mutex
	dests map[netip.Addr]bool
	last  error
}

// enoughToFail is how many destinations that cannot be reached one after the
// other say that nothing is carried.
const enoughToFail = 4

func (f *failing) failed(dest netip.Addr, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dests == nil {
		f.dests = make(map[netip.Addr]bool)
	}
	if len(f.dests) < enoughToFail {
		f.dests[dest] = true
	}
	f.last = err
}

func (f *failing) carried() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dests, f.last = nil, nil
}

// Failing is the last error if no connection is carried, whatever it is for;
// nil if some are, or it is not known.
func (p *Proxy) Failing() error {
	f := &p.failing
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dests) < enoughToFail {
		return nil
	}
	return f.last
}

// Carried counts the connections being carried, and what has been since the
// start.
func (p *Proxy) Carried() (open int, b Bytes) {
	st := &p.stats
	direct := Bytes{Up: st.Straight.AToB.Load(), Down: st.Straight.BToA.Load()}
	b = Bytes{Up: st.Converted.AToB.Load() + direct.Up, Down: st.Converted.BToA.Load() + direct.Down, Direct: direct.Up + direct.Down}
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return p.table.carrying, b
}

// Dialer is what it dials with.
func (p *Proxy) Dialer() *mptcp.Dialer { return &p.dialer }

// Open is how many LAN connections there are, with those whose far side has
// not been reached yet, and far sides that wait for their handshake.
func (p *Proxy) Open() int { return p.table.len() + p.held.waiting() }

// Each calls do for every connection that is being carried, oldest first. All
// others wait meanwhile.
func (p *Proxy) Each(do func(Connection)) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	for c := p.table.oldest; c != nil; c = c.next {
		if c.far != nil {
			do(c.describeLocked())
		}
	}
}

// table is the open connections, in the order in which they came.
type table struct {
	mu             sync.Mutex
	last           uint64 // id
	oldest, newest *connection
	open           int                // connections
	carrying       int                // of them, those with a far side
	starts         map[netip.Addr]int // how many subflows start at an address
}

// connection is a LAN connection and, once it is carried, its far side.
type connection struct {
	proxy   *Proxy
	id      uint64 // in the table
	lan     *mptcp.Conn
	src     netip.AddrPort
	dest    netip.AddrPort
	wanted  config.Path // by the packet filter's rules
	started time.Time

	// Under the table's lock. The last two are written once.
	search  *search // for the far side; nil: it is over, or has not begun
	far     *mptcp.Conn
	attempt path.Attempt

	pair    relay.Pair
	ward    guard.Ward
	unwatch func() // set before the pair starts

	// Under the table's lock.
	prev, next *connection
	listed     bool
	starts     []netip.Addr // replaced, not changed

	missing missing // of who asks for it
}

func (c *connection) describeLocked() Connection {
	d := Connection{ID: c.id, Src: c.src, Dst: c.dest, Path: c.attempt.Path, WAN: c.attempt.WAN, Started: c.started,
		Up: c.pair.AToB.Load(), Down: c.pair.BToA.Load(), Starts: c.starts, Conn: c.far}
	if c.attempt.Converter != nil {
		d.Converter = c.attempt.Converter.Name
	}
	return d
}

// add refuses once ctx has ended: resetAll may have been already.
func (t *table) add(ctx context.Context, c *connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	t.last++
	c.id = t.last
	t.appendLocked(c)
	return true
}

func (t *table) appendLocked(c *connection) {
	if c.prev = t.newest; c.prev == nil {
		t.oldest = c
	} else {
		c.prev.next = c
	}
	t.newest, c.listed = c, true
	t.open++
}

// searched says what a connection's far side is searched for by; it refuses like add.
func (t *table) searched(ctx context.Context, c *connection, s *search) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	c.search = s
	return true
}

// carried says what a connection is carried by; it refuses like add.
func (t *table) carried(ctx context.Context, c *connection, far *mptcp.Conn, a path.Attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	c.search, c.far, c.attempt = nil, far, a
	t.carrying++
	t.startLocked(c, []netip.Addr{far.Local.Addr()})
	return true
}

// beside is how the oldest connection is carried that a flow's host has open to
// the same address.
func (t *table) beside(f path.Flow) (open path.Attempt, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := t.oldest; c != nil; c = c.next {
		if c.far != nil && c.src.Addr() == f.Src && c.dest.Addr() == f.Dest.Addr() {
			return c.attempt, true
		}
	}
	return path.Attempt{}, false
}

func (t *table) remove(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.listed {
		return // it has been removed already
	}
	before, after := &t.oldest, &t.newest
	if c.prev != nil {
		before = &c.prev.next
	}
	if c.next != nil {
		after = &c.next.prev
	}
	*before, *after = c.next, c.prev
	c.prev, c.next, c.listed = nil, nil, false
	t.open--
	if c.far != nil {
		t.carrying--
		t.startLocked(c, nil)
	}
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

func (t *table) resetAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := t.oldest; c != nil; c = c.next {
		c.lan.Reset()
		switch {
		case c.far != nil:
			c.far.Reset()
		case c.search != nil:
			c.search.end(net.ErrClosed)
		}
	}
}

// keepMapped says whether NATs are kept from forgetting connections that have
// more than one line.
func (t *table) keepMapped(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := t.oldest; c != nil; c = c.next {
		if c.far != nil {
			keepMapped(c.far, on)
		}
	}
}

// keepMapped tells a far side. One that is plain TCP has one line only.
func keepMapped(far *mptcp.Conn, on bool) {
	_ = far.KeepMapped(on || !far.MPTCP) // it may have ended
}
