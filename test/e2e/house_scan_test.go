// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// scan has a LAN host connect to n addresses, of which none answers, as fast as
// it can, and tells how many connections it got; they stay open until the test
// ends.
func scan(t *testing.T, from *lab.Node, first netip.Addr, n int) (connected int) {
	t.Helper()
	const atOnce = 4000
	toC := make(chan netip.Addr)
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
	})
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for to := range toC {
				d := net.Dialer{Timeout: time.Second}
				d.SetMultipathTCP(false)
				c, err := from.Dial(t.Context(), d, "tcp", netip.AddrPortFrom(to, 443).String())
				if err == nil {
					mu.Lock()
					open = append(open, c)
					mu.Unlock()
				}
			}
		})
	}
	for to := first; n > 0; to, n = to.Next(), n-1 {
		toC <- to
	}
	close(toC)
	running.Wait()
	return len(open)
}

// A LAN host scans 65,536 addresses. What it costs is bounded, the others of the
// house are served as ever, and so is what the host does beside it, without the
// proxy for a while.
func TestHouseScan(t *testing.T) {
	const (
		targets = 1 << 16
		perHost = 256 + 256/4 + 1 // what one may have waiting
		memory  = 48 << 20        // that this may take
	)
	for _, filter := range []string{"nftables", "iptables"} {
		t.Run(filter, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lab.Options{Hosts: 2}, UCI: strings.Replace(rig.DefaultUCI, "list lan", "option firewall '"+filter+"'\n\tlist lan", 1)})
			sh(t, r.Core, "ip route add blackhole 203.1.0.0/16")
			by := func(n *lab.Node) string {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				p, err := fromNode(r, n, lab.Server4, rig.Port).Identify(ctx)
				switch {
				case err != nil:
					return err.Error()
				case p.Remote.Addr().Unmap() == lab.Converter4:
					return "converter"
				}
				return over(r, p.Remote.Addr())
			}
			before, err := r.Agent.Usage()
			must(t, err)
			scanC := make(chan int, 1)
			go func() { scanC <- scan(t, r.Hosts[0], netip.MustParseAddr("203.1.0.0"), targets) }()
			eventually(t, 10*time.Second, func() error {
				if how := by(r.Hosts[0]); how != "fibre" && how != "lte" {
					return errors.New("the host that scans is served by " + how)
				}
				return nil
			})
			served, beside, connected, most := 0, 0, -1, 0
			for connected < 0 {
				if how := by(r.Hosts[1]); how != "converter" {
					t.Logf("another host is served by %s", how)
					beside++
				}
				transfer(t, fromNode(r, r.Hosts[1], lab.Server4, rig.Port), traffic.Download, 1e5)
				served++
				most = max(most, status(t, r).Connections.Open)
				select {
				case connected = <-scanC:
				case <-time.After(200 * time.Millisecond):
				}
			}
			after, err := r.Agent.Usage()
			must(t, err)
			t.Logf("%d of %d connections were taken, at most %d carried; another host was served %d times; the agent's memory %.1f MB before, at most %.1f MB",
				connected, targets, most, served, float64(before.Resident)/1e6, float64(after.Peak)/1e6)
			if connected > 2*perHost {
				t.Errorf("%d connections were taken", connected)
			}
			if after.Peak-before.Resident > memory {
				t.Errorf("memory has grown by %d bytes", after.Peak-before.Resident)
			}
			if served < 3 || beside > served/4 { // a late answer has a way beside the converter win
				t.Errorf("another host was served %d times, %d of them beside the converter", served, beside)
			}
		})
	}
}
