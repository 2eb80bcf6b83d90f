// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy carries intercepted LAN connections: it takes them from the
// packet filter, asks package path how each is to be carried, dials, and
// relays.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/guard"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

const (
	// patience is how long one attempt runs alone before the next one starts
	// beside it.
	patience = time.Second
	// dialTimeout bounds all attempts together.
	dialTimeout = 20 * time.Second
)

// Acceptor is where intercepted connections come from.
type Acceptor interface {
	Serve(handle func(c *net.TCPConn, dest netip.AddrPort)) error
	Close() error
}

// Proxy carries connections. It rejects them until it is given a Network.
type Proxy struct {
	Log *slog.Logger

	Guard *guard.Guard

	network atomic.Pointer[path.Network]
	dialer  mptcp.Dialer
	table   table
	stats   Stats
}

// SetNetwork changes what new connections are decided by.
func (p *Proxy) SetNetwork(n *path.Network) { p.network.Store(n) }

// Run serves until ctx ends, then resets what is open.
func (p *Proxy) Run(ctx context.Context, a Acceptor) error {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		p.table.resetAll()
	})
	defer stop()
	err := a.Serve(func(c *net.TCPConn, dest netip.AddrPort) {
		conn, ok := p.table.add(ctx, c, dest)
		if !ok {
			relay.Reset(c)
			return
		}
		p.stats.Total.Add(1)
		running.Go(func() {
			defer p.table.remove(conn)
			p.carry(ctx, conn)
		})
	})
	p.table.resetAll()
	running.Wait()
	return err
}

// carry is the life of one LAN connection.
func (p *Proxy) carry(ctx context.Context, c *connection) {
	far, a, err := p.reach(ctx, c.dest)
	if err != nil {
		p.Log.Debug("not reached", "src", c.src, "dst", c.dest, "error", err)
		p.stats.Failed.Add(1)
		relay.Reset(c.lan)
		return
	}
	p.count(a, far)
	pair := &relay.Pair{A: c.lan, B: far.TCPConn}
	if a.Path == config.PathConvert {
		pair.Greet = func() error { return p.greet(c, far) }
	}
	if !p.table.carried(ctx, c, far, a, pair) {
		relay.Reset(c.lan)
		relay.Reset(far.TCPConn)
		return
	}
	unguard := p.Guard.Add(far, &pair.AToB)
	err = pair.Run()
	unguard()
	p.stats.Up.Add(pair.AToB.Load())
	p.stats.Down.Add(pair.BToA.Load())
	p.Log.Debug("closed", "src", c.src, "dst", c.dest, "path", a.Path, "wan", a.WAN, "mptcp", far.MPTCP,
		"up", pair.AToB.Load(), "down", pair.BToA.Load(), "error", err)
}

func (p *Proxy) count(a path.Attempt, far *mptcp.Conn) {
	if a.Path == config.PathConvert {
		p.stats.Convert.Add(1)
	} else {
		p.stats.Direct.Add(1)
	}
	if !far.MPTCP {
		p.stats.TCPFallback.Add(1)
	}
}

// greet reads the converter's answer, the first thing on the stream. The
// LAN's data does not wait for it.
func (p *Proxy) greet(c *connection, far *mptcp.Conn) error {
	m, err := convert.Read(far)
	if err != nil {
		return fmt.Errorf("reading the converter's answer: %w", err)
	}
	if refused, ok := convert.Find[convert.Error](m); ok {
		p.stats.Refused.Add(1)
		return refused
	}
	return nil
}

// reach makes the attempts in order. An attempt that has not come to a result
// within a second gets the next one beside it; the first to succeed is it.
func (p *Proxy) reach(ctx context.Context, dest netip.AddrPort) (*mptcp.Conn, path.Attempt, error) {
	n := p.network.Load()
	if n == nil {
		return nil, path.Attempt{}, errors.New("no network yet")
	}
	d := n.Decide(dest)
	if len(d.Attempts) == 0 {
		return nil, path.Attempt{}, errors.New(d.Reason)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type result struct {
		conn *mptcp.Conn
		a    path.Attempt
		err  error
	}
	resultC := make(chan result, len(d.Attempts))
	started, ended := 0, 0
	start := func() {
		a := d.Attempts[started]
		started++
		go func() {
			conn, err := p.dial(ctx, a, dest)
			resultC <- result{conn, a, err}
		}()
	}
	start()
	var errs []error
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case r := <-resultC:
			ended++
			if r.err == nil {
				cancel()
				go func() { // those that were too late
					for ; ended < started; ended++ {
						if late := <-resultC; late.err == nil {
							relay.Reset(late.conn.TCPConn)
						}
					}
				}()
				return r.conn, r.a, nil
			}
			errs = append(errs, r.err)
			if started < len(d.Attempts) {
				start()
				timer.Reset(patience)
			} else if ended == started {
				return nil, path.Attempt{}, errors.Join(errs...)
			}
		case <-timer.C:
			if started < len(d.Attempts) {
				start()
				timer.Reset(patience)
			}
		}
	}
}

func (p *Proxy) dial(ctx context.Context, a path.Attempt, dest netip.AddrPort) (*mptcp.Conn, error) {
	if a.Path != config.PathConvert {
		return p.dialer.Dial(ctx, a.Source, dest, nil)
	}
	m, err := convert.Request(convert.NewConnect(dest, convert.KindMPTCP), a.Converter.Cookie).Append(nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %v: %w", dest, err)
	}
	return p.dialer.Dial(ctx, a.Source, a.Peer, m)
}

// Network is what new connections are decided by; nil before the first.
func (p *Proxy) Network() *path.Network { return p.network.Load() }
