// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

const (
	idleConnections = 2000
	echoPort        = rig.Port + 2
	// rest is the time after which a program's memory is looked at.
	rest = 2 * time.Second
)

// idleHosts are whose idle connections are: what a host may have open is bounded.
var idleHosts = []string{"192.168.1.101", "192.168.1.102", "192.168.1.103", "192.168.1.104"}

// memory measures both programs without and with open connections.
func (b *bench) memory(ctx context.Context) (err error) {
	t := newTable(fmt.Sprintf("Memory, without connections and with %d that are open and idle", idleConnections),
		"idle, MB", "own, MB", "with all, MB", "own, MB", "own kB each")
	d, err := b.bed(ctx, lab.Options{Veth: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	echo, err := echoes(ctx, d.braid)
	if err != nil {
		return err
	}
	defer echo.Close()

	programs := []struct {
		name string
		p    *rig.Process
	}{{"braid", d.braid.Agent}, {"braid-mcp", d.braid.MCP}}
	idle := make([]rig.Usage, len(programs))
	if err := pause(ctx, rest); err != nil {
		return err
	}
	for i, p := range programs {
		if idle[i], err = p.p.Usage(); err != nil {
			return err
		}
	}
	conns, err := open(ctx, d.braid, idleConnections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if err := errors.Join(err, pause(ctx, rest)); err != nil {
		return err
	}
	for i, p := range programs {
		u, err := p.p.Usage()
		if err != nil {
			return err
		}
		mb := func(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }
		t.row(p.name, mb(idle[i].Resident), mb(idle[i].Anonymous), mb(u.Resident), mb(u.Anonymous),
			fmt.Sprintf("%.1f", float64(u.Anonymous-idle[i].Anonymous)/idleConnections/1e3))
	}
	return d.check()
}

// open opens connections of a LAN host that have carried a byte to the server
// and back, some at a time.
func open(ctx context.Context, r *rig.Rig, n int) (conns []net.Conn, err error) {
	const atOnce = 8
	for _, a := range idleHosts {
		if _, err := r.Host().Run("ip addr add " + a + "/24 dev $(ip route get 192.168.1.1 | sed -n 's/.* dev \\([^ ]*\\) .*/\\1/p')"); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for range n / atOnce {
				c, err := openOne(ctx, r.Host(), idleHosts[i%len(idleHosts)])
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					conns = append(conns, c)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(errs...)
}

func openOne(ctx context.Context, host *lab.Node, from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), Timeout: 10 * time.Second}
	c, err := host.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, echoPort).String())
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = c.Write([]byte{'x'}); err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("sending a byte there and back: %w", err)
	}
	return c, nil
}

// echoes has a server send back what comes, until it is closed.
func echoes(ctx context.Context, r *rig.Rig) (net.Listener, error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // else the converter would leave
	l, err := r.Server.Listen(ctx, plain, "tcp", fmt.Sprintf(":%d", echoPort))
	if err == nil {
		go serveEcho(l)
	}
	return l, err
}

// serveEcho sends back what comes, until l is closed.
func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
