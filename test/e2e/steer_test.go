// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/config"
	"braid/agent/report"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// outside are the addresses as which the world may know a flow of the host
// that is steered: those of the WANs, and its own IPv6 one over the WAN that
// routes the LAN's prefix.
func outside(r *rig.Rig, v6 bool) (addrs []netip.Addr) {
	for _, w := range r.WANs {
		addrs = append(addrs, seenOver(w, v6))
	}
	return addrs
}

func seenOver(w *lab.WAN, v6 bool) netip.Addr {
	switch {
	case !v6:
		return w.Public4
	case w.RoutesLAN:
		return lab.Host6
	}
	return w.Gateway6.Addr()
}

// over names the WAN over which a flow came that the world sees from a.
func over(r *rig.Rig, a netip.Addr) string {
	for _, w := range r.WANs {
		if a = a.Unmap(); a == seenOver(w, a.Is6()) {
			return w.Name
		}
	}
	return a.String()
}

// mirror answers UDP to an address of a node with whom it sees.
func mirror(t *testing.T, n *lab.Node, at netip.Addr) {
	t.Helper()
	pc, err := n.ListenPacket(t.Context(), net.ListenConfig{}, "udp", netip.AddrPortFrom(at, mirrorPort).String())
	must(t, err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo([]byte(from.String()), from)
		}
	}()
}

// ask sends a packet to a mirror and tells over which WAN it was seen.
func ask(r *rig.Rig, c net.Conn) (string, error) {
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := c.Write([]byte("who am I?")); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil {
		return "", err
	}
	seen, err := netip.ParseAddrPort(string(buf[:n]))
	if err != nil {
		return "", err
	}
	return over(r, seen.Addr()), nil
}

// udp opens a flow to a mirror.
func udp(t *testing.T, n *lab.Node, to netip.Addr) net.Conn {
	t.Helper()
	c, err := n.Dial(t.Context(), net.Dialer{}, "udp", netip.AddrPortFrom(to, mirrorPort).String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// servers gives the server n addresses more of each family, with a mirror each.
func servers(t *testing.T, r *rig.Rig, n int) (all4, all6 []netip.Addr) {
	t.Helper()
	var script strings.Builder
	a4, a6 := netip.MustParseAddr("192.0.2.81"), netip.MustParseAddr("2001:db8:80::100")
	for range n {
		fmt.Fprintf(&script, "ip addr add %v/32 dev eth0; ip addr add %v/128 dev eth0 nodad\n", a4, a6)
		all4, all6 = append(all4, a4), append(all6, a6)
		a4, a6 = a4.Next(), a6.Next()
	}
	sh(t, r.Server, script.String())
	for _, a := range slices.Concat(all4, all6) {
		mirror(t, r.Server, a)
	}
	return all4, all6
}

// spread tells over which WAN the flow to each server goes.
func spread(t *testing.T, r *rig.Rig, servers []netip.Addr) map[netip.Addr]string {
	t.Helper()
	found := make(map[netip.Addr]string)
	for _, s := range servers {
		wan, err := ask(r, udp(t, r.Host(), s))
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		found[s] = wan
	}
	return found
}

func count(found map[netip.Addr]string, wan string) (n int) {
	for _, w := range found {
		if w == wan {
			n++
		}
	}
	return n
}

const mirrorPort = 7777

func withGlobals(options string) string {
	return strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\t"+strings.ReplaceAll(options, "; ", "\n\t"), 1)
}

// backends are the packet filters, each with a PATH in which it is what
// "iptables" stands for.
var backends = []string{"nftables", "iptables-legacy", "iptables-nft"}

// backend has the agent use a packet filter for the length of a test.
func backend(t *testing.T, name, uci string) string {
	t.Helper()
	if name == "nftables" {
		return uci
	}
	dir := t.TempDir()
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			path, err := exec.LookPath(strings.Replace(name, "iptables", command, 1) + suffix)
			must(t, err)
			must(t, os.Symlink(path, filepath.Join(dir, command+suffix)))
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return strings.Replace(uci, "list lan 'lan0'", "list lan 'lan0'\n\toption firewall 'iptables'", 1)
}

// Flows that are not intercepted are divided among the WANs by weight; those
// of a pair of hosts stay together.
func TestSteer(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI)})
			all4, all6 := servers(t, r, 40)
			for _, all := range [][]netip.Addr{all4, all6} {
				found := spread(t, r, all)
				if n := count(found, "fibre"); n < 8 || n > 32 || n+count(found, "lte") != len(all) {
					t.Errorf("%d of %d flows over fibre: %v", n, len(all), found)
				}
				for s, wan := range found {
					if again, err := ask(r, udp(t, r.Host(), s)); again != wan || err != nil {
						t.Errorf("to %v first over %s, then over %s, %v", s, wan, again, err)
					}
				}
			}
			if c := status(t, r).Connections; c.Total != 0 {
				t.Errorf("braid took connections: %+v", c)
			}
		})
	}
}

// A flow stays on its WAN while that lives, whatever becomes of the others;
// when it dies, the next packets take another one, from an address that fits.
func TestSteeredFlowMoves(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI)})
			all4, all6 := servers(t, r, 10)
			flows := make(map[net.Conn]string)
			for _, s := range slices.Concat(all4, all6) {
				c := udp(t, r.Host(), s)
				wan, err := ask(r, c)
				must(t, err)
				flows[c] = wan
			}
			// where checks that each flow is where it was, but those of a WAN that has died.
			where := func(dead string) {
				t.Helper()
				for c, was := range flows {
					eventually(t, 8*time.Second, func() error {
						wan, err := ask(r, c)
						if err != nil {
							return fmt.Errorf("%v was over %s: %w", c.RemoteAddr(), was, err)
						}
						if was != dead && wan != was || wan == dead {
							return fmt.Errorf("%v was over %s, is over %s", c.RemoteAddr(), was, wan)
						}
						flows[c] = wan
						return nil
					})
				}
			}
			where("")
			must(t, r.WAN("lte").SetDown())
			where("lte")
			must(t, r.WAN("lte").SetUp())
			working(t, r, "lte", true)
			where("") // all over fibre, and there they stay
			r.Link("fibre").Blackhole(true)
			where("fibre")
			r.Link("fibre").Blackhole(false)
			working(t, r, "fibre", true)
			where("")
		})
	}
}

// working waits until the agent says that a WAN works, or that it does not.
func working(t *testing.T, r *rig.Rig, name string, want bool) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		for _, w := range status(t, r).WANs {
			if w.Name == name && (w.State != "down") != want {
				return fmt.Errorf("%s is %s: %s", name, w.State, w.Reason)
			}
		}
		return nil
	})
}

// Flows come and go over WANs of the highest role that works; a backup is left
// alone until then.
func TestSteerByRole(t *testing.T) {
	r := start(t, rig.Options{UCI: strings.Replace(rig.DefaultUCI, "option role 'bond'", "option role 'backup'", 1)})
	all4, all6 := servers(t, r, 10)
	only := func(wan string) {
		t.Helper()
		for _, all := range [][]netip.Addr{all4, all6} {
			eventually(t, 5*time.Second, func() error { // each family by itself
				if found := spread(t, r, all); count(found, wan) != len(all) {
					return fmt.Errorf("not all over %s: %v", wan, found)
				}
				return nil
			})
		}
	}
	only("fibre")
	must(t, r.WAN("fibre").SetDown())
	working(t, r, "fibre", false)
	only("lte")
	must(t, r.WAN("fibre").SetUp())
	working(t, r, "fibre", true)
	only("fibre")
}

// What comes in over a WAN is answered over it: by the gateway, and by a host
// behind a port forward.
func TestInbound(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			public := lab.LTE(link.Spec{}, link.Spec{})
			public.V4 = lab.Public
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI),
				Lab: lab.Options{Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{}), public}}})
			mirror(t, r.Host(), lab.Host4)
			mirror(t, r.Host(), lab.Host6)
			nft(t, r.Gateway, `table ip forward {
				chain prerouting {
					type nat hook prerouting priority dstnat
					iifname { "fibre", "lte" } udp dport 7777 dnat to 192.168.1.20
				}
			}`)
			for _, w := range r.WANs {
				before := r.Link(w.Name).AB().Counters().Bytes
				for range 20 {
					if _, err := ask(r, udp(t, r.Server, w.Gateway4.Addr())); err != nil {
						t.Fatalf("host, over %s: %v", w.Name, err)
					}
				}
				if sent := r.Link(w.Name).AB().Counters().Bytes - before; sent < 20*40 {
					t.Errorf("%s carried %d bytes of answers", w.Name, sent)
				}
				for _, to := range []netip.Addr{w.Gateway4.Addr(), w.Gateway6.Addr()} {
					if _, err := r.Serve(r.Gateway, false, rig.Port+1); err != nil && to == r.WANs[0].Gateway4.Addr() {
						t.Fatal(err)
					}
					p, err := fromNode(r, r.Server, to, rig.Port+1).Identify(t.Context())
					if err != nil || p.Remote.Addr() != lab.Server4 && p.Remote.Addr() != lab.Server6 {
						t.Errorf("gateway, at %v: %+v, %v", to, p, err)
					}
				}
			}
			c := udp(t, r.Server, lab.Host6)
			eventually(t, 5*time.Second, func() error { // neighbours have to be found
				_, err := ask(r, c)
				return err
			})
		})
	}
}

func fromNode(r *rig.Rig, n *lab.Node, to netip.Addr, port uint16) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		return n.Dial(ctx, net.Dialer{Timeout: 5 * time.Second}, "tcp", netip.AddrPortFrom(to, port).String())
	}
}

// The gateway's own traffic takes the best WAN that works, while the main
// table stays as it is and what it knows better is heeded, as are the tables
// of VPNs.
func TestGatewayFollows(t *testing.T) {
	r := start(t, rig.Options{})
	mirror(t, r.Server, lab.Server4)
	mirror(t, r.Server, lab.Server6)
	attach(t, r, r.Server, "vpn", "10.9.0.1/24", "10.9.0.2/24")
	attach(t, r, r.Server, "mesh", "10.10.0.1/24", "10.10.0.2/24")
	mesh := netip.MustParseAddr("203.0.113.66")
	vpn := netip.MustParseAddr("203.0.113.65")
	sh(t, r.Server, fmt.Sprintf("ip addr add %v/32 dev lo; ip addr add %v/32 dev lo", vpn, mesh))
	sh(t, r.Gateway, fmt.Sprintf("ip route add %v via 10.9.0.2; ip route add %v via 10.10.0.2 table 52; ip rule add pref 5270 lookup 52", vpn, mesh))
	mirror(t, r.Server, vpn)
	mirror(t, r.Server, mesh)
	routes := sh(t, r.Gateway, "ip route; ip -6 route")
	goes := func(want string) {
		t.Helper()
		for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
			eventually(t, 8*time.Second, func() error {
				c := udp(t, r.Gateway, to)
				if _, err := ask(r, c); err != nil {
					return err
				}
				local := netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
				if w := r.WAN(want); local != w.Gateway4.Addr() && local != w.Gateway6.Addr() {
					return fmt.Errorf("it goes from %v", local)
				}
				return nil
			})
		}
		for to, from := range map[netip.Addr]string{vpn: "10.9.0.1", mesh: "10.10.0.1"} {
			eventually(t, 8*time.Second, func() error {
				c := udp(t, r.Gateway, to)
				if _, err := ask(r, c); err != nil {
					return err
				}
				if local := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); local.String() != from {
					return fmt.Errorf("%v is reached from %v", to, local)
				}
				return nil
			})
		}
	}
	goes("fibre")
	r.Link("fibre").Blackhole(true)
	goes("lte")
	if now := sh(t, r.Gateway, "ip route; ip -6 route"); now != routes {
		t.Errorf("the main table has changed from\n%s\nto\n%s", routes, now)
	}
	r.Link("fibre").Blackhole(false)
	working(t, r, "fibre", true)
	goes("fibre")
}

// Steered IPv6 leaves each WAN from an address that the WAN takes.
func TestSteeredIPv6(t *testing.T) {
	t.Run("masquerade", func(t *testing.T) {
		r := start(t, rig.Options{})
		_, all6 := servers(t, r, 20)
		seen := make(map[netip.Addr]int)
		for _, s := range all6 {
			seen[identity(t, udp(t, r.Host(), s))]++
		}
		if len(seen) != 2 || seen[lab.Host6] == 0 || seen[r.WAN("lte").Gateway6.Addr()] == 0 {
			t.Errorf("the server sees %v", seen)
		}
	})
	t.Run("npt", func(t *testing.T) {
		for _, b := range backends {
			t.Run(b, func(t *testing.T) {
				r := start(t, rig.Options{UCI: backend(t, b, withGlobals("option ipv6 'npt'"))})
				// A carrier that routes the whole prefix to the gateway.
				sh(t, r.WAN("lte").Router, "ip -6 route replace 2001:db8:c::20 via 2001:db8:c::2")
				_, all6 := servers(t, r, 20)
				seen := make(map[netip.Addr]int)
				for _, s := range all6 {
					seen[identity(t, udp(t, r.Host(), s))]++
				}
				if want := netip.MustParseAddr("2001:db8:c::20"); len(seen) != 2 || seen[lab.Host6] == 0 || seen[want] == 0 {
					t.Errorf("the server sees %v", seen)
				}
			})
		}
	})
}

// identity is the address that a mirror sees.
func identity(t *testing.T, c net.Conn) (seen netip.Addr) {
	t.Helper()
	eventually(t, 3*time.Second, func() error {
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Write([]byte("who am I?")); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		p, err := netip.ParseAddrPort(string(buf[:n]))
		seen = p.Addr().Unmap()
		return err
	})
	return seen
}

// Rules hold in their order, for whatever protocol; the first that matches
// decides.
func TestRules(t *testing.T) {
	const rules = `
config rule 'one'
	list dest '192.0.2.81'
	list dest '2001:db8:80::100'
	option path 'pass'
	option wan 'lte'

config rule 'two'
	list dest '192.0.2.81'
	list dest '192.0.2.82'
	option path 'pass'
	option wan 'fibre'

config rule 'three'
	list dest '192.0.2.83'
	option proto 'udp'
	option path 'reject'

config rule 'four'
	list dest '192.0.2.84'
	option proto 'tcp'
	list dest_port '8000-8100'
	option path 'reject'

config rule 'five'
	list domain 'bank.example'
	option path 'pass'
	option wan 'lte'

config rule 'six'
	list src 'MAC'
	list dest '192.0.2.85'
	option path 'convert'

config rule 'seven'
	list dest '192.0.2.80/28'
	option proto 'tcp'
	option path 'pass'

config rule 'eight'
	option proto 'icmp'
	list dest '192.0.2.90'
	option path 'reject'
`
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			uci := backend(t, b, rig.DefaultUCI)
			r := start(t, rig.Options{Idle: true})
			mac := sh(t, r.Host(), "cat /sys/class/net/eth0/address")
			must(t, r.WriteUCI(uci+strings.Replace(rules, "MAC", mac, 1)))
			must(t, r.StartMCP("-client", "0.0.0.0/0"))
			must(t, r.StartAgent())
			all4, all6 := servers(t, r, 12)
			at := func(last int) netip.Addr { return all4[last-81] }
			udpOver := func(to netip.Addr) string {
				wan, err := ask(r, udp(t, r.Host(), to))
				if err != nil {
					return err.Error()
				}
				return wan
			}
			if wan := udpOver(at(81)); wan != "lte" {
				t.Errorf("the first of two rules says lte: %s", wan)
			}
			if wan := udpOver(all6[0]); wan != "lte" {
				t.Errorf("IPv6 is pinned to lte: %s", wan)
			}
			if wan := udpOver(at(82)); wan != "fibre" {
				t.Errorf("pinned to fibre: %s", wan)
			}
			notTaken(t, r, func() {
				for to, want := range map[netip.Addr]string{at(81): "lte", at(82): "fibre"} {
					p, err := fromNode(r, r.Host(), to, rig.Port).Identify(t.Context())
					if err != nil || over(r, p.Remote.Addr()) != want {
						t.Errorf("TCP to %v is seen from %v, want %s, %v", to, p.Remote, want, err)
					}
				}
				if _, err := fromNode(r, r.Host(), at(83), rig.Port).Identify(t.Context()); err != nil {
					t.Errorf("TCP where only UDP is refused: %v", err)
				}
			})
			for to, want := range map[netip.Addr]report.Explanation{
				at(82): {Address: at(82), Path: config.PathPass, Rule: "two", Reason: "rule two says so",
					Subflows: []report.ExpectedSubflow{{WAN: "fibre", Family: "ipv4", Remote: netip.AddrPortFrom(at(82), rig.Port).String(), Peer: "server"}}},
				at(84): {Address: at(84), Path: config.PathReject, Rule: "four", Reason: "rule four says so", Subflows: []report.ExpectedSubflow{}},
			} {
				var got report.Explanation
				out, err := r.Braid("explain", netip.AddrPortFrom(to, rig.Port).String(), "-json")
				must(t, err)
				must(t, json.Unmarshal(out, &got))
				if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
					t.Errorf("%v is explained (-want +got):\n%s", to, d)
				}
			}
			if wan := udpOver(at(83)); !strings.Contains(wan, "refused") && !strings.Contains(wan, "no route to host") {
				t.Errorf("UDP that is refused: %s", wan)
			}
			if wan := udpOver(at(84)); wan != "fibre" && wan != "lte" {
				t.Errorf("UDP where only TCP is refused: %s", wan)
			}
			notTaken(t, r, func() {
				if _, err := dial(t, r.Host(), at(84), rig.Port); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("TCP that is refused: %v", err)
				}
			})
			if c := counted(t, r, func() { transfer(t, fromNode(r, r.Host(), at(85), rig.Port), traffic.Echo, 1e5) }); c.Total != 1 {
				t.Errorf("a source MAC's: the agent counted %+v", c)
			}
			notTaken(t, r, func() { transfer(t, fromNode(r, r.Host(), at(86), rig.Port), traffic.Echo, 1e5) })
			for to, want := range map[netip.Addr]icmpMessage{at(90): {3, 13}, at(91): {0, 0}} {
				if got := ping(t, r.Host(), to); got != want {
					t.Errorf("ICMP to %v is answered by %v, want %v", to, got, want)
				}
			}

			// What dnsmasq puts there stays when the rules change.
			add := "nft add element inet braid rule_five_4 { 192.0.2.92 }"
			if b != "nftables" {
				add = "ipset add braid_five_4 192.0.2.92"
			}
			sh(t, r.Gateway, add)
			must(t, r.WAN("fibre").SetDown())
			working(t, r, "fibre", false)
			must(t, r.WAN("fibre").SetUp())
			working(t, r, "fibre", true)
			for range 3 {
				if wan := udpOver(at(92)); wan != "lte" {
					t.Errorf("a domain's address: %s", wan)
				}
			}
			notTaken(t, r, func() { transfer(t, fromNode(r, r.Host(), at(92), rig.Port), traffic.Echo, 1e5) })
		})
	}
}

// icmpMessage is type and code of one.
type icmpMessage struct{ kind, code byte }

// ping sends an echo request and tells what comes back first; over a raw
// socket, which sees all that is ICMP.
func ping(t *testing.T, n *lab.Node, to netip.Addr) icmpMessage {
	t.Helper()
	c, err := n.ListenPacket(t.Context(), net.ListenConfig{}, "ip4:icmp", "0.0.0.0")
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	_, err = c.WriteTo([]byte{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}, &net.IPAddr{IP: to.AsSlice()})
	must(t, err)
	buf := make([]byte, 1500)
	if _, _, err = c.ReadFrom(buf); err != nil {
		t.Errorf("ping %v: %v", to, err)
	}
	return icmpMessage{buf[0], buf[1]}
}

// QUIC is refused, so that browsers take TCP; other UDP is not.
func TestBlockQUIC(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, withGlobals("option block_quic '1'"))})
			servers(t, r, 1)
			for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
				c, err := r.Host().Dial(t.Context(), net.Dialer{}, "udp", netip.AddrPortFrom(to, 443).String())
				must(t, err)
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Second))
				c.Write([]byte("hello"))
				refused := 0
				for _, want := range []error{syscall.EHOSTUNREACH, syscall.EACCES, syscall.ECONNREFUSED} {
					if _, err = c.Read(make([]byte, 1)); errors.Is(err, want) {
						refused++
						break
					}
					c.Write([]byte("hello"))
				}
				if refused == 0 {
					t.Errorf("QUIC to %v: %v", to, err)
				}
			}
			if wan, err := ask(r, udp(t, r.Host(), netip.MustParseAddr("192.0.2.81"))); err != nil {
				t.Errorf("other UDP: %s, %v", wan, err)
			}
		})
	}
}
