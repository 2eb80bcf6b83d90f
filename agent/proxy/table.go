// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

// Stats counts since the start.
type Stats struct {
	Total       atomic.Uint64 // LAN connections taken
	Convert     atomic.Uint64 // carried through a converter
	Direct      atomic.Uint64 // carried straight to the server
	TCPFallback atomic.Uint64 // of those carried, without MPTCP
	Refused     atomic.Uint64 // by a converter
	Failed      atomic.Uint64 // not carried at all
	Up, Down    atomic.Uint64 // bytes of closed connections, from and to the LAN
	Straight    atomic.Uint64 // of both, those of connections without a converter
}

// Connection is a LAN connection that is being carried.
type Connection struct {
	ID        uint64
	Src, Dst  netip.AddrPort
	Path      config.Path
	Converter string // name, with convert
	WAN       string // of the first subflow
	Started   time.Time
	Up, Down  uint64 // bytes from and to the LAN
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
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	b = Bytes{Up: p.stats.Up.Load(), Down: p.stats.Down.Load(), Direct: p.stats.Straight.Load()}
	for _, c := range p.table.conns {
		if c.far == nil {
			continue
		}
		open++
		up, down := c.pair.AToB.Load(), c.pair.BToA.Load()
		b.Up, b.Down = b.Up+up, b.Down+down
		if c.attempt.Path == config.PathDirect {
			b.Direct += up + down
		}
	}
	return open, b
}

// Dialer is what it dials with.
func (p *Proxy) Dialer() *mptcp.Dialer { return &p.dialer }

// Open is how many LAN connections there are, with those whose far side has
// not been reached yet, and far sides that wait for their handshake.
func (p *Proxy) Open() int { return p.table.len() + p.held.waiting() }

// Connections are those being carried, oldest first.
func (p *Proxy) Connections() []Connection { return p.table.list() }

// table is the open connections.
type table struct {
	mu    sync.Mutex
	last  uint64
	conns map[uint64]*connection
}

// connection is a LAN connection and, once it is carried, its far side.
type connection struct {
	id      uint64
	lan     *mptcp.Conn
	src     netip.AddrPort
	dest    netip.AddrPort
	wanted  config.Path // by the packet filter's rules
	started time.Time

	// Written once under the table's lock.
	far     *mptcp.Conn
	attempt path.Attempt
	pair    *relay.Pair

	missing missing // of who asks for it
}

// add refuses once ctx has ended: resetAll may have been already.
func (t *table) add(ctx context.Context, lan *net.TCPConn, dest netip.AddrPort, wanted config.Path) (*connection, bool) {
	c := mptcp.WrapTCP(lan)
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return nil, false
	}
	if t.conns == nil {
		t.conns = make(map[uint64]*connection)
	}
	t.last++
	conn := &connection{
		id:      t.last,
		lan:     c,
		src:     c.Remote,
		dest:    dest,
		wanted:  wanted,
		started: time.Now(),
	}
	t.conns[conn.id] = conn
	return conn, true
}

// carried says what a connection is carried by; it refuses like add.
func (t *table) carried(ctx context.Context, c *connection, far *mptcp.Conn, a path.Attempt, p *relay.Pair) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	c.far, c.attempt, c.pair = far, a, p
	return true
}

// beside is how the oldest connection is carried that a flow's host has open to
// the same address.
func (t *table) beside(f path.Flow) (open path.Attempt, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest *connection
	for _, c := range t.conns {
		if c.far != nil && c.src.Addr() == f.Src && c.dest.Addr() == f.Dest.Addr() && (oldest == nil || c.id < oldest.id) {
			oldest = c
		}
	}
	if oldest == nil {
		return path.Attempt{}, false
	}
	return oldest.attempt, true
}

func (t *table) remove(c *connection) {
	t.mu.Lock()
	delete(t.conns, c.id)
	t.mu.Unlock()
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

func (t *table) resetAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		c.lan.Reset()
		if c.far != nil {
			c.far.Reset()
		}
	}
}

// keepMapped says whether NATs are kept from forgetting connections that have
// more than one line.
func (t *table) keepMapped(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		if c.far != nil {
			keepMapped(c.far, on)
		}
	}
}

// keepMapped tells a far side. One that is plain TCP has one line only.
func keepMapped(far *mptcp.Conn, on bool) {
	_ = far.KeepMapped(on || !far.MPTCP) // it may have ended
}

// EachFar calls do for the far side of every connection that is being carried.
func (p *Proxy) EachFar(do func(id uint64, far *mptcp.Conn)) {
	type far struct {
		id   uint64
		conn *mptcp.Conn
	}
	p.table.mu.Lock()
	all := make([]far, 0, len(p.table.conns))
	for _, c := range p.table.conns {
		if c.far != nil {
			all = append(all, far{c.id, c.far})
		}
	}
	p.table.mu.Unlock()
	for _, f := range all {
		do(f.id, f.conn)
	}
}

func (t *table) list() []Connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Connection, 0, len(t.conns))
	for _, c := range t.conns {
		if c.far == nil {
			continue
		}
		v := Connection{ID: c.id, Src: c.src, Dst: c.dest, Path: c.attempt.Path, WAN: c.attempt.WAN, Started: c.started,
			Up: c.pair.AToB.Load(), Down: c.pair.BToA.Load(), Conn: c.far}
		if c.attempt.Converter != nil {
			v.Converter = c.attempt.Converter.Name
		}
		list = append(list, v)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}
