// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy carries intercepted LAN connections: it takes them from the
// packet filter, asks package path how each is to be carried, dials, and
// relays.
package proxy

import (
	"context"
	"errors"
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
// in that the packet filter distinguishes. Their Local is what was dialled.
type Acceptor interface {
	Serve(handle func(c *mptcp.Conn, way int)) error
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

	network  network
	dialer   mptcp.Dialer
	table    table
	carrying sync.WaitGroup // of what is in the table
	held     held
	crowd    crowd
	stats    Stats
	failing  failing
	looked   time.Time // at all connections' subflows
	bulkAt   time.Time // a connection last carried much
	remade   map[netip.Addr]*retry
	lines    []netip.Addr // from which subflows start
	changed  time.Time    // lines

	unreached unreached
}

// Run serves until ctx ends, then resets what is open.
func (p *Proxy) Run(ctx context.Context, a Acceptor) error {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		p.table.resetAll()
	})
	defer stop()
	err := a.Serve(func(c *mptcp.Conn, way int) {
		host := c.Remote.Addr()
		if !p.crowd.enter(host) {
			p.stats.Failed.Add(1)
			c.Reset()
			return
		}
		conn := &connection{proxy: p, lan: c, src: c.Remote, dest: c.Local, wanted: p.Wanted(way), started: time.Now()}
		if !p.table.add(ctx, conn) {
			p.crowd.add(host, -p.crowd.waiting())
			c.Reset()
			return
		}
		p.stats.Total.Add(1)
		p.carrying.Add(1)
		go p.carry(ctx, conn)
	})
	p.table.resetAll()
	p.carrying.Wait()
	return err
}

// carry finds the far side of a LAN connection and starts to relay.
func (p *Proxy) carry(ctx context.Context, c *connection) {
	r, err := p.farSide(ctx, c)
	if err != nil {
		p.Log.Debug("not reached", "src", c.src, "dst", c.dest, "error", err)
		p.fail(ctx, c.dest, err)
		p.leave(c, p.crowd.waiting())
		return
	}
	p.crowd.add(c.src.Addr(), 1-p.crowd.waiting())
	far, a := r.conn, r.attempt
	p.count(a, far)
	pair := &c.pair
	pair.A, pair.B, pair.First, pair.Sum, pair.Owner = c.lan, far, r.rest, p.stats.sum(a.Path), c
	pair.AToB.Store(uint64(r.sent))
	// A host that sleeps may be sent something. When all has been said, what it
	// has not acknowledged is the kernel's, for as long as that likes.
	_ = c.lan.SetUserTimeout(relay.DefaultIdle)
	_ = c.lan.SetRetransmitMax(wakes) // which older kernels do not know
	if !p.table.carried(ctx, c, far, a) {
		far.Reset()
		p.leave(c, 1)
		return
	}
	pair.Sum.AToB.Add(uint64(r.sent))
	keepMapped(far, p.network.Load().KeepMapped)
	c.unwatch = p.watchJoins(c.dest, a, far)
	p.Guard.Add(&c.ward, far, &pair.AToB)
	pair.Start()
}

// Pace implements relay.Owner.
func (c *connection) Pace(int) time.Duration { return 0 }

// Closing implements relay.Owner.
func (c *connection) Closing() {
	_ = c.lan.SetRetransmitMax(mptcp.RetransmitMax)
	_ = c.lan.SetUserTimeout(0)
	c.proxy.table.remove(c) // when its host sees that it is closed, it does not count as open any more
}

// Closed implements relay.Owner.
func (c *connection) Closed(err error) {
	p := c.proxy
	p.Guard.Remove(&c.ward)
	c.unwatch()
	if p.Log.Enabled(journal.Debug) {
		p.Log.Debug("closed", "src", c.src, "dst", c.dest, "path", c.attempt.Path, "wan", c.attempt.WAN, "mptcp", c.far.MPTCP,
			"up", c.pair.AToB.Load(), "down", c.pair.BToA.Load(), "error", err)
	}
	p.leave(c, 1)
}

// leave is the end of a LAN connection, which weighs something. One that is open
// still is reset.
func (p *Proxy) leave(c *connection, weight int) {
	p.table.remove(c)
	p.crowd.add(c.src.Addr(), -weight)
	c.lan.Reset()
	p.carrying.Done()
}

// fail counts a connection that is not carried. A server's own refusal is none
// of ours, nor is its host's.
func (p *Proxy) fail(ctx context.Context, dest netip.AddrPort, err error) {
	p.stats.Failed.Add(1)
	if ctx.Err() == nil && !refusal(err) && !errors.Is(err, errHostGone) {
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
	p.unreached.carriedAt.Store(int64(time.Since(started)))
	if a.Path == config.PathConvert {
		p.stats.Convert.Add(1)
	} else {
		p.stats.Direct.Add(1)
	}
	if !far.MPTCP {
		p.stats.TCPFallback.Add(1)
	}
}
