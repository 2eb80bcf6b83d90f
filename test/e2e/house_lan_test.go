// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
)

// A second router in the LAN, which does not translate: what its hosts send comes from a network that is
// not the gateway's, and finds back by a route.
func TestHouseWithSecondRouter(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			h := newHouse(t, lab.Options{Hosts: 2}, backend(t, b, rig.DefaultUCI))
			inner := h.Hosts[1] // the router and, by a second address, the host behind it
			sh(t, inner, `ip addr add 192.168.50.20/32 dev lo
				ip addr add 2001:db8:1:50::20/128 dev lo nodad
				ip route replace default via 192.168.1.1 src 192.168.50.20
				ip -6 route replace default via 2001:db8:1::1 src 2001:db8:1:50::20`)
			sh(t, h.Gateway, "ip route add 192.168.50.0/24 via 192.168.1.21")
			behind := allBy(inner, "fibre")
			behind.only = 4
			h.leaves(t, behind)
			h.moveIn(t, "fibre", "lte")
			h.leaves(t, ways{from: inner, only: 4, udp: bothWANs, tcp: taken}, ways{from: h.Host(), udp: bothWANs, tcp: taken})
		})
	}
}

// A host of the LAN is reached by its neighbours, too, at the public addresses of both lines, whose port
// is forwarded to it.
func TestHouseWithHairpin(t *testing.T) {
	const port = 8081
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			public := lab.LTE(link.Spec{}, link.Spec{})
			public.V4 = lab.Public
			h := newHouse(t, lab.Options{Hosts: 2, Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{}), public}}, backend(t, b, rig.DefaultUCI))
			serves, asks := h.Hosts[0], h.Hosts[1]
			_, err := h.Serve(serves, false, port)
			must(t, err)
			nft(t, h.Gateway, fmt.Sprintf(`table ip forwards {
				chain prerouting {
					type nat hook prerouting priority dstnat
					fib daddr type local tcp dport %[1]d dnat to %[2]v
				}
				chain postrouting {
					type nat hook postrouting priority srcnat
					iifname "lan0" oifname "lan0" ip daddr %[2]v masquerade
				}
			}`, port, lab.Host4))
			reached := func() {
				t.Helper()
				for _, w := range h.WANs {
					for name, from := range map[string]*lab.Node{"a neighbour": asks, "the world": h.Server} {
						p, err := fromNode(h.Rig, from, w.Gateway4.Addr(), port).Identify(t.Context())
						if err != nil || p.Local != netip.AddrPortFrom(lab.Host4, port) || from == h.Server && p.Remote.Addr() != lab.Server4 {
							t.Errorf("from %s at %s: %+v, %v", name, w.Name, p, err)
						}
					}
				}
			}
			// The answer to the world by the second line takes a gateway that follows its flows.
			h.moveIn(t, "fibre", "lte")
			notTaken(t, h.Rig, reached)
			h.leaves(t, ways{from: asks, udp: bothWANs, tcp: taken})
		})
	}
}

// A fibre with IPv6 alone and a NAT64, beside an LTE with IPv4 alone: what has one family leaves by the
// line that has it, and what is taken by both.
func TestHouseWithOneFamilyEach(t *testing.T) {
	lte := lab.LTE(fast, fast)
	lte.V6 = false
	h := newHouse(t, lab.Options{Accesses: []lab.Access{
		{Name: "fibre", V4: lab.None, V6: true, NAT64: netip.MustParsePrefix(nat64), Down: fast, Up: fast}, lte,
	}}, homeUCI("fibre; device fibre; role primary", "lte; device lte; kind cellular; role bond"))
	v4, v6 := ways{from: h.Host(), only: 4, udp: []string{"lte"}}, ways{from: h.Host(), only: 6, udp: []string{"fibre"}}
	h.leaves(t, v4, v6)
	h.moveIn(t, "fibre", "lte")
	v4.tcp, v6.tcp = taken, taken
	h.leaves(t, v4, v6)
	for _, server := range []netip.Addr{lab.Server4, lab.Server6} {
		if n := h.downloads(t, server, 16e6, bothWANs...); n["fibre"] < 4e6 || n["lte"] < 4e6 {
			t.Errorf("of 16 MB from %v have come %v", server, n)
		}
	}
}

// A line without a router to name: its far end answers for all addresses, and the gateway's own is alone
// in its network.
func TestHouseWithoutRouterAddress(t *testing.T) {
	h := newHouse(t, onEthernet(), bondUCI)
	for i, w := range h.WANs {
		must(t, w.Router.Sysctl("net.ipv4.conf.gw.proxy_arp", "1"))
		sh(t, h.Gateway, fmt.Sprintf(`ip -4 addr flush dev %[1]s
			ip addr add %[2]v/32 dev %[1]s
			ip route add default dev %[1]s metric %[3]d`, w.Name, w.Gateway4.Addr(), 10*(i+1)))
	}
	h.leaves(t, allBy(h.Host(), "fibre"))
	var interfaces []rig.Interface
	for i, w := range h.WANs {
		in := netifdOf(w, []string{"wan", "wwan"}[i], "static")
		in.IPv4 = rig.Addresses(netip.PrefixFrom(w.Gateway4.Addr(), 32))
		in.Routes[0] = rig.Default(netip.IPv4Unspecified())
		interfaces = append(interfaces, in)
	}
	h.netifd(t, interfaces...)
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	stop := background(t, h.FromHost(lab.Server4))
	defer stop()
	h.carries(t, "lte", "", "")
}

// An LTE router that is a host of the LAN is no line for braid, which says so; the LAN is as it was.
func TestHouseWithRouterInTheLAN(t *testing.T) {
	h := newHouse(t, onEthernet(), homeUCI("fibre; interface wan", "second; interface wan2; kind cellular"))
	sh(t, h.Gateway, "ip route add default via 192.168.1.254 dev lan0 metric 99")
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), rig.Interface{Name: "wan2", Up: true, Proto: "static", L3Device: "lan0", Device: "lan0",
		IPv4: netifdLAN.IPv4, Routes: []rig.Route{rig.Default(netip.MustParseAddr("192.168.1.254"))}})
	h.moveIn(t, "fibre")
	h.told(t, "the LAN's")
	h.leaves(t, ways{from: h.Host(), udp: []string{"fibre"}, tcp: taken}, ways{from: h.Gateway, udp: []string{"fibre"}})
	working(t, h.Rig, "second", false)
}

// A LAN with public addresses beside the private ones, which the first line routes and nobody translates:
// their flows leave as without braid, for no other line would take them.
func TestHouseWithPublicLAN(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			h := newHouse(t, lab.Options{Hosts: 2}, backend(t, b, rig.DefaultUCI))
			sh(t, h.Gateway, `ip addr add 198.18.200.1/29 dev lan0
				nft flush table ip nat
				nft 'add rule ip nat postrouting ip saddr 192.168.1.0/24 oifname { "fibre", "lte" } masquerade'`)
			sh(t, h.WANs[0].Router, "ip route add 198.18.200.0/29 via 198.51.100.2")
			sh(t, h.Core, fmt.Sprintf("ip route add 198.18.200.0/29 via %s", sh(t, h.WANs[0].Router, "ip -4 -o addr show dev core | sed 's/.*inet \\([0-9.]*\\).*/\\1/'")))
			public := h.Hosts[1]
			sh(t, public, "ip addr flush dev eth0; ip addr add 198.18.200.2/29 dev eth0; ip route add default via 198.18.200.1")
			own := ways{from: public, only: 4, udp: []string{"198.18.200.2"}}
			h.leaves(t, own)
			h.moveIn(t, "fibre", "lte")
			own.tcp = taken
			h.leaves(t, own, ways{from: h.Host(), udp: bothWANs, tcp: taken})
		})
	}
}
