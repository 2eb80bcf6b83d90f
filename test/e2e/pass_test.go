// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// attach connects a node with the gateway by a device more, of the same name
// on both sides.
func attach(t *testing.T, r *rig.Rig, n *lab.Node, device, gateway, node string) {
	t.Helper()
	sh(t, r.Gateway, fmt.Sprintf(`
		ip link add %[1]s type veth peer name %[1]s netns %[2]s
		ip addr add %[3]s dev %[1]s
		ip link set %[1]s up`, device, n.Name, gateway))
	sh(t, n, fmt.Sprintf("ip addr add %s dev %s; ip link set %[2]s up", node, device))
}

// What is none of braid's business stays as it is.
func TestNeverTaken(t *testing.T) {
	lan2 := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\tlist lan 'lan2'", 1)
	both := strings.Replace(lan2, "list address '192.0.2.10'", "list address '192.0.2.10'\n\tlist address '2001:db8:10::10'", 1)
	r := start(t, rig.Options{Lab: lab.Options{Hosts: 2}, UCI: both})
	serve := func(t *testing.T, n *lab.Node) {
		t.Helper()
		if _, err := r.Serve(n, false, rig.Port); err != nil {
			t.Fatal(err)
		}
	}

	// sees checks whom the server sees, and that braid has nothing to do with it.
	sees := func(from, at *lab.Node, to netip.Addr, want ...netip.Addr) func(*testing.T) {
		return func(t *testing.T) {
			if at != r.Server {
				serve(t, at)
			}
			notTaken(t, r, func() {
				if p := identify(t, r.From(from, to, false)); !slices.Contains(want, p.Remote.Addr()) {
					t.Errorf("the server sees %v, want one of %v", p.Remote, want)
				}
				transfer(t, r.From(from, to, false), traffic.Echo, 1e6)
			})
		}
	}
	addr := netip.MustParseAddr
	fibre := r.WAN("fibre")
	t.Run("the gateway's own", sees(r.Gateway, r.Server, lab.Server4, fibre.Public4))
	t.Run("to the gateway", sees(r.Host(), r.Gateway, lab.Gateway4, lab.Host4))
	t.Run("to a WAN address of the gateway", func(t *testing.T) {
		notTaken(t, r, func() {
			for _, to := range []netip.Addr{fibre.Gateway4.Addr(), r.WAN("lte").Gateway4.Addr(), fibre.Gateway6.Addr()} {
				transfer(t, r.FromHost(to), traffic.Echo, 1e5)
			}
		})
	})
	t.Run("to the converter", sees(r.Host(), r.Converter, lab.Converter4, outside(r, false)...))
	t.Run("to the converter, IPv6", func(t *testing.T) {
		notTaken(t, r, func() {
			if p := identify(t, r.FromHost(lab.Converter6)); !slices.Contains(outside(r, true), p.Remote.Addr()) {
				t.Errorf("the converter sees %v", p.Remote)
			}
		})
	})
	t.Run("LAN to LAN", func(t *testing.T) {
		attach(t, r, r.Hosts[1], "lan2", "192.168.2.1/24", "192.168.2.20/24")
		eventually(t, 5*time.Second, func() error {
			if routes := sh(t, r.Gateway, "ip route show table 7001"); !strings.Contains(routes, "throw 192.168.2.0/24") {
				return fmt.Errorf("the agent does not know lan2 yet:\n%s", routes)
			}
			return nil
		})
		sh(t, r.Hosts[1], "ip route replace 192.168.1.20/32 via 192.168.2.1")
		sees(r.Host(), r.Hosts[1], addr("192.168.2.20"), lab.Host4)(t)
	})
	t.Run("to a device that is no WAN", func(t *testing.T) {
		attach(t, r, r.Server, "vpn", "10.9.0.1/24", "10.9.0.2/24")
		sh(t, r.Server, "ip route add 192.168.1.0/24 via 10.9.0.1")
		sees(r.Host(), r.Server, addr("10.9.0.2"), lab.Host4)(t)
	})
	t.Run("the page of a modem", func(t *testing.T) {
		lte := r.WAN("lte")
		sh(t, lte.Router, fmt.Sprintf("ip addr add 192.168.8.1/32 dev lo; ip route add 192.168.8.2/32 via %v", lte.Gateway4.Addr()))
		sh(t, r.Gateway, "ip addr add 192.168.8.2/24 dev lte")
		eventually(t, 5*time.Second, func() error {
			out, err := r.Braid("explain", "192.168.8.1:8080")
			if err == nil && !strings.Contains(string(out), "private network") {
				err = errors.New(string(out))
			}
			return err
		})
		sees(r.Host(), lte.Router, addr("192.168.8.1"), lte.Gateway4.Addr(), addr("192.168.8.2"))(t)
	})
	t.Run("redirected by the firewall", func(t *testing.T) {
		nft(t, r.Gateway, `table ip elsewhere {
			chain prerouting {
				type nat hook prerouting priority dstnat
				ip daddr 203.0.113.99 dnat to 192.0.2.80
			}
		}`)
		sees(r.Host(), r.Server, addr("203.0.113.99"), outside(r, false)...)(t)
	})
	t.Run("port forward to the LAN", func(t *testing.T) {
		nft(t, r.Gateway, `table ip inside {
			chain prerouting {
				type nat hook prerouting priority dstnat
				iifname "fibre" tcp dport 8080 dnat to 192.168.1.20
			}
		}`)
		sees(r.Server, r.Host(), fibre.Public4, lab.Server4)(t)
	})
	t.Run("UDP", func(t *testing.T) {
		pc, err := r.Server.ListenPacket(t.Context(), net.ListenConfig{}, "udp", "0.0.0.0:8080")
		must(t, err)
		defer pc.Close()
		go traffic.ServeUDP(pc)
		notTaken(t, r, func() {
			c, err := r.Host().Dial(t.Context(), net.Dialer{}, "udp", "192.0.2.80:8080")
			must(t, err)
			defer c.Close()
			rep, err := traffic.Stream{Count: 50, Interval: 5 * time.Millisecond, Size: 200}.Run(t.Context(), c)
			if err != nil || rep.Received != 50 || rep.Damaged != 0 {
				t.Errorf("%v, %v", rep, err)
			}
		})
	})
	t.Run("to the proxy's listener", func(t *testing.T) {
		notTaken(t, r, func() {
			for _, lo := range []string{"127.0.0.1", "::1"} {
				c, err := dial(t, r.Gateway, addr(lo), listenerPort(t, r, lo))
				if err == nil { // the reset may be faster than we are
					_, err = c.Read(make([]byte, 1))
				}
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v", lo, err)
				}
			}
			if c, err := dial(t, r.Host(), lab.Gateway4, listenerPort(t, r, "127.0.0.1")); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("from the LAN: %v, %v", c, err)
			}
		})
	})
	// All this time the rest was taken.
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
		t.Errorf("the agent counted %+v", c)
	}
}

// listenerPort finds the proxy's listener among the gateway's.
func listenerPort(t *testing.T, r *rig.Rig, lo string) uint16 {
	t.Helper()
	for _, line := range strings.Split(sh(t, r.Gateway, "ss -Hltn"), "\n") {
		local := strings.Fields(line)[3]
		if port, ok := strings.CutPrefix(strings.Trim(strings.Replace(local, "]", "", 1), "["), lo+":"); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			must(t, err)
			return uint16(n)
		}
	}
	t.Fatalf("nobody listens on %s", lo)
	return 0
}

// A connection that is forwarded when braid starts goes on so until its end,
// through stop and another start too.
func TestForwardedBefore(t *testing.T) {
	r := start(t, rig.Options{Idle: true, Lab: lines()})
	stop := background(t, r.FromHost(lab.Server4))
	grows := func() {
		t.Helper()
		before := linkBytes(r, traffic.Download)
		eventually(t, 5*time.Second, func() error {
			if n := linkBytes(r, traffic.Download)[0] - before[0]; n < 2e6 {
				return fmt.Errorf("fibre carried %d bytes", n)
			}
			return nil
		})
	}
	grows()
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	grows()
	if c := status(t, r).Connections; c.Total != 0 {
		t.Errorf("braid took connections: %+v", c)
	}
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
		t.Errorf("the agent counted %+v", c)
	}
	must(t, r.Agent.Stop())
	grows()
	must(t, r.StartAgent())
	grows()
	stop()
	if c := status(t, r).Connections; c.Total != 0 {
		t.Errorf("braid took connections: %+v", c)
	}
}
