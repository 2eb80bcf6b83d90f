// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy carries intercepted LAN connections: it takes them from the
// packet filter, asks package path how each is to be carried, dials, and
// relays.
package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
	"braid/transport/relay"
)

// wakes is how long after it has woken a host of the LAN hears at most what it
// was sent while it slept.
const wakes = 3 * time.Second

// Acceptor is where intercepted connections come from, each by one of the ways
// in that the packet filter distinguishes.
type Acceptor interface {
	Serve(handle func(c *net.TCPConn, dest netip.AddrPort, way int)) error
	Close() error
}

// Proxy carries connections. It rejects them until it is given a Network.
type Proxy struct {
	Log    *journal.Log
	Guard  *guard.Guard
	Memory *path.Memory
	Doubt  func(converter string, w path.Way, err error) // told of one that has failed by a way, and how
	Missed func()                                        // told of a connection for which no converter answers
	Wanted func(way int) config.Path                     // what the filter's rules want for what comes in by a way
	Wallet proof.Wallet                                  // what converters know us by

	network network
	dialer  mptcp.Dialer
	table   table
	held    held
	crowd   crowd
	stats   Stats
	failing failing
	looked  time.Time // at all connections' subflows
	bulkAt  time.Time // a connection last carried much
	remade  map[netip.Addr]*retry
	lines   []netip.Addr // from which subflows start
	changed time.Time    // lines

	unreached unreached
}

// Run serves until ctx ends, then resets what is open.
func (p *Proxy) Run(ctx context.Context, a Acceptor) error {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		p.table.resetAll()
	})
	defer stop()
	err := a.Serve(func(c *net.TCPConn, dest netip.AddrPort, way int) {
		host := hostOf(c)
		if !p.crowd.enter(host) {
			p.stats.Failed.Add(1)
			relay.Reset(c)
			return
		}
		conn, ok := p.table.add(ctx, c, dest, p.Wanted(way))
		if !ok {
			p.crowd.add(host, -p.crowd.waiting())
			relay.Reset(c)
			return
		}
		p.stats.Total.Add(1)
		running.Add(1)
		go p.carry(ctx, conn, running.Done)
	})
	p.table.resetAll()
	running.Wait()
	return err
}

// carry finds the far side of a LAN connection and starts to relay; done is
// called when that has ended.
func (p *Proxy) carry(ctx context.Context, c *connection, done func()) {
	r, err := p.farSide(ctx, c)
	if err != nil {
		p.Log.Debug("not reached", "src", c.src, "dst", c.dest, "error", err)
		p.fail(ctx, c.dest, err)
		p.leave(c, p.crowd.waiting(), done)
		return
	}
	p.crowd.add(c.src.Addr(), 1-p.crowd.waiting())
	far, a := r.conn, r.attempt
	p.count(a, far)
	pair := &relay.Pair{A: c.lan, B: far, First: r.rest, Sum: p.stats.sum(a.Path)}
	pair.AToB.Store(uint64(r.sent))
	// A host that sleeps may be sent something. When all has been said, what it
	// has not acknowledged is the kernel's, for as long as that likes.
	_ = c.lan.SetUserTimeout(relay.DefaultIdle)
	_ = c.lan.SetRetransmitMax(wakes) // which older kernels do not know
	pair.Closing = func() {
		_ = c.lan.SetRetransmitMax(mptcp.RetransmitMax)
		_ = c.lan.SetUserTimeout(0)
		p.table.remove(c) // when its host sees that it is closed, it does not count as open any more
	}
	if !p.table.carried(ctx, c, far, a, pair) {
		far.Reset()
		p.leave(c, 1, done)
		return
	}
	pair.Sum.AToB.Add(uint64(r.sent))
	keepMapped(far, p.network.Load().KeepMapped)
	unwatch := p.watchJoins(c.dest, a, far)
	unguard := p.Guard.Add(far, &pair.AToB)
	pair.Start(func(err error) {
		unguard()
		unwatch()
		if p.Log.Enabled(journal.Debug) {
			p.Log.Debug("closed", "src", c.src, "dst", c.dest, "path", a.Path, "wan", a.WAN, "mptcp", far.MPTCP,
				"up", pair.AToB.Load(), "down", pair.BToA.Load(), "error", err)
		}
		p.leave(c, 1, done)
	})
}

// leave is the end of a LAN connection, which weighs something. One that is open
// still is reset.
func (p *Proxy) leave(c *connection, weight int, done func()) {
	p.table.remove(c)
	p.crowd.add(c.src.Addr(), -weight)
	c.lan.Reset()
	done()
}

// hostOf is who a LAN connection is from.
func hostOf(c *net.TCPConn) netip.Addr {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// fail counts a connection that is not carried. A server's own refusal is none
// of ours.
func (p *Proxy) fail(ctx context.Context, dest netip.AddrPort, err error) {
	p.stats.Failed.Add(1)
	if ctx.Err() == nil && !refusal(err) {
		p.failing.failed(dest.Addr(), err)
	}
}

// refusal says whether a server has refused a connection, or a converter has it
// from the server.
func refusal(err error) bool {
	var answer convert.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &answer) && answer.Code == convert.ConnectionReset
}

func (p *Proxy) count(a path.Attempt, far *mptcp.Conn) {
	p.failing.carried()
	p.unreached.carriedAt.Store(time.Now().UnixNano())
	if a.Path == config.PathConvert {
		p.stats.Convert.Add(1)
	} else {
		p.stats.Direct.Add(1)
	}
	if !far.MPTCP {
		p.stats.TCPFallback.Add(1)
	}
}
