// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// asker is a program of the gateway's own that has a connection open over which
// it asks something a second, and opens another one when that has failed, as a
// resolver by HTTPS does.
type asker struct {
	answers, opened atomic.Int64
	last            atomic.Int64 // when the last answer came, ns since the epoch
	local           atomic.Value // string: the connection's address here
}

func (a *asker) run(t *testing.T, r *rig.Rig, to string) {
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(false)
	for t.Context().Err() == nil {
		c, err := r.Gateway.Dial(t.Context(), d, "tcp", to)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		a.opened.Add(1)
		a.local.Store(c.LocalAddr().String())
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for in := bufio.NewReader(c); ; {
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
				a.answers.Add(1)
				a.last.Store(time.Now().UnixNano())
			}
		}()
		asks := time.NewTicker(time.Second)
		for open := true; open; {
			if _, err := c.Write([]byte("where is example.net?\n")); err != nil {
				break
			}
			select {
			case <-asks.C:
			case <-heard:
				open = false
			case <-t.Context().Done():
				open = false
			}
		}
		asks.Stop()
		c.Close()
		<-heard
	}
}

// answering echoes lines on a port of the server's.
func answering(t *testing.T, r *rig.Rig, port uint16) {
	t.Helper()
	l := listen(t, r.Server, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 1000)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					c.Write(buf[:n])
				}
			}()
		}
	}()
}

// A program of the router's own asks something a second over its one connection,
// the LAN is idle, and the line swallows everything, is down, or is down and has
// lost its addresses, as netifd takes them away: the next answer comes within 3 s, over
// another line, and new connections of the LAN are none the slower. A
// connection that somebody has opened to the router, one that is none of a dead
// line's, and one of the line's other family live on.
func TestHouseOwnConnection(t *testing.T) {
	const port = 8853
	type breakage struct {
		name        string
		breaks, end func(*testing.T, *rig.Rig)
	}
	up := func(t *testing.T, r *rig.Rig) { must(t, r.WAN("fibre").SetUp()) }
	hole := breakage{"black hole",
		func(_ *testing.T, r *rig.Rig) { r.Link("fibre").Blackhole(true) },
		func(_ *testing.T, r *rig.Rig) { r.Link("fibre").Blackhole(false) }}
	down := breakage{"down", func(t *testing.T, r *rig.Rig) { must(t, r.WAN("fibre").SetDown()) }, up}
	gone := breakage{"unplugged", func(t *testing.T, r *rig.Rig) { sh(t, r.Gateway, "ip link set fibre down; ip addr flush dev fibre") }, up}
	for _, tt := range []struct {
		filter string
		server netip.Addr
		breakage
	}{
		{"nftables", lab.Server4, hole}, {"nftables", lab.Server6, hole}, {"iptables", lab.Server4, hole}, {"iptables", lab.Server6, hole},
		{"nftables", lab.Server4, down}, {"nftables", lab.Server6, down}, {"nftables", lab.Server4, gone}, {"nftables", lab.Server6, gone},
	} {
		t.Run(fmt.Sprintf("%s, %v, %s", tt.filter, tt.server, tt.name), func(t *testing.T) {
			r := start(t, rig.Options{UCI: strings.Replace(rig.DefaultUCI, "list lan", "option firewall '"+tt.filter+"'\n\tlist lan", 1)})
			answering(t, r, port)
			var a asker
			go a.run(t, r, netip.AddrPortFrom(tt.server, port).String())
			// What is open to the router itself, over the LTE.
			in := listen(t, r.Gateway, 2222)
			peer, err := dial(t, r.WAN("lte").Router, r.WAN("lte").Gateway4.Addr(), 2222)
			must(t, err)
			inside, err := in.Accept()
			must(t, err)
			t.Cleanup(func() { inside.Close() })
			says(t, peer, inside)
			time.Sleep(8 * time.Second) // it is idle, and nothing is probed often
			if a.opened.Load() != 1 || a.answers.Load() < 5 {
				t.Fatalf("%d answers by %d connections", a.answers.Load(), a.opened.Load())
			}
			tt.breaks(t, r)
			began, answers := time.Now(), a.answers.Load()
			var next time.Duration
			eventually(t, 20*time.Second, func() error {
				if a.answers.Load() <= answers+1 { // one may have been under way
					return fmt.Errorf("no answer from %v: %+v", a.local.Load(), status(t, r).WANs)
				}
				next = time.Unix(0, a.last.Load()).Sub(began)
				return nil
			})
			t.Logf("the next answer came after %v, by connection %d from %v", next, a.opened.Load(), a.local.Load())
			if next > 3*time.Second*patience {
				t.Errorf("the next answer came after %v", next)
			}
			if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4); rep.FirstByte > 500*time.Millisecond*patience {
				t.Errorf("a new connection: %v", rep)
			}
			says(t, inside, peer)
			says(t, peer, inside)
			// What has begun anew is not ended again when the line returns.
			tt.end(t, r)
			working(t, r, "fibre", true)
			opened := a.opened.Load()
			time.Sleep(3 * time.Second)
			if n := a.opened.Load(); n != opened {
				t.Errorf("%d connections more when the line is back", n-opened)
			}
		})
	}
}
