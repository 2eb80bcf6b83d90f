// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	"braid/test/lab"
	"braid/test/rig"
)

// pbr sends one host by a VPN and another by one WAN, by marks and rules for them. While the VPN is
// away its table is unreachable, and nothing leaks.
func TestHouseWithPBR(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) { testHouseWithPBR(t, backend(t, b, rig.DefaultUCI)) })
	}
}

func testHouseWithPBR(t *testing.T, uci string) {
	h := newHouse(t, lab.Options{Hosts: 3}, uci)
	h.vpn(t, "wg0")
	sh(t, h.Gateway, `for family in -4 -6; do
			ip $family rule add pref 29998 fwmark 0x20000/0xff0000 lookup 258
			ip $family rule add pref 30000 fwmark 0x10000/0xff0000 lookup 256
			ip $family route add default dev wg0 table 258
			ip $family route add unreachable default metric 65535 table 258
		done
		ip route add default via `+h.WANs[0].Router4.String()+` dev fibre table 256
		ip -6 route add default via `+h.WANs[0].Router6.String()+` dev fibre table 256`)
	nft(t, h.Gateway, `table inet pbr {
		chain mark_wg0 {
			meta mark set (meta mark & 0xff00ffff) ^ 0x20000
		}
		chain mark_wan {
			meta mark set (meta mark & 0xff00ffff) ^ 0x10000
		}
		chain prerouting {
			type filter hook prerouting priority mangle
			ip saddr 192.168.1.21 goto mark_wg0
			ip6 saddr 2001:db8:1::21 goto mark_wg0
			ip saddr 192.168.1.22 goto mark_wan
			ip6 saddr 2001:db8:1::22 goto mark_wan
		}
	}`)
	first, behind, fixed := h.Hosts[0], h.Hosts[1], h.Hosts[2]
	pinged := func() {
		t.Helper()
		if n := h.leave(t, behind, "icmp", h.all4[:3]); n["wg0"] != 3 {
			t.Errorf("ICMP leaves by %v", n)
		}
	}
	h.leaves(t, allBy(behind, "wg0"), allBy(fixed, "fibre"))
	pinged()
	h.moveIn(t, "fibre", "lte")
	notTaken(t, h.Rig, func() { h.leaves(t, allBy(behind, "wg0"), allBy(fixed, "fibre")) })
	pinged()
	h.leaves(t, ways{from: first, udp: bothWANs, tcp: taken})
	sh(t, h.Gateway, "ip route del default dev wg0 table 258; ip -6 route del default dev wg0 table 258")
	h.leaves(t, allBy(behind, "nothing"))
}

// pbr decides about the router's own connections too.
func TestHouseWithPBRForTheRouter(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.vpn(t, "wg0")
	sh(t, h.Gateway, `for family in -4 -6; do
			ip $family rule add pref 29998 fwmark 0x20000/0xff0000 lookup 258
			ip $family route add default dev wg0 table 258
		done`)
	nft(t, h.Gateway, fmt.Sprintf(`table inet pbr {
		chain output {
			type route hook output priority mangle
			meta l4proto { tcp, udp } th dport { %d, %d } meta mark set (meta mark & 0xff00ffff) ^ 0x20000
		}
	}`, rig.Port, mirrorPort))
	h.leaves(t, allBy(h.Gateway, "wg0"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, allBy(h.Gateway, "wg0"), ways{from: h.Host(), udp: bothWANs, tcp: taken})
}

// mwan3 has marks, and tables, for a WAN each.
func TestHouseWithMWAN3(t *testing.T) {
	h := newHouse(t, lab.Options{Hosts: 2}, rig.DefaultUCI)
	fibre, lte := h.WANs[0], h.WANs[1]
	sh(t, h.Gateway, `
		ip route add default via `+fibre.Router4.String()+` dev fibre table 1
		ip route add default via `+lte.Router4.String()+` dev lte table 2
		ip route add 192.168.1.0/24 dev lan0 table 1
		ip route add 192.168.1.0/24 dev lan0 table 2
		ip rule add pref 1001 iif fibre lookup 1
		ip rule add pref 1002 iif lte lookup 2
		ip rule add pref 2001 fwmark 0x100/0x3f00 lookup 1
		ip rule add pref 2002 fwmark 0x200/0x3f00 lookup 2
		ip rule add pref 2061 fwmark 0x3d00/0x3f00 blackhole
		ip rule add pref 2062 fwmark 0x3e00/0x3f00 unreachable
		ip rule add pref 3001 fwmark 0x100/0x3f00 unreachable
		ip rule add pref 3002 fwmark 0x200/0x3f00 unreachable`)
	nft(t, h.Gateway, `table ip mwan3 {
		chain prerouting {
			type filter hook prerouting priority mangle
			ct mark & 0x3f00 == 0x200 meta mark set meta mark | 0x200
			meta mark & 0x3f00 == 0 ip saddr 192.168.1.21 meta mark set meta mark | 0x200
			meta mark & 0x3f00 == 0x200 ct mark set ct mark | 0x200
		}
	}`)
	by := allBy(h.Hosts[1], "lte")
	by.only = 4
	h.leaves(t, by)
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, by, ways{from: h.Host(), udp: bothWANs, tcp: taken})
}

// Rules by source, by device and by destination say for whom another table holds.
func TestHouseWithRules(t *testing.T) {
	h := newHouse(t, lab.Options{Hosts: 3}, withGlobals("list lan 'guest'"))
	guest := h.Hosts[2]
	attach(t, h.Rig, guest, "guest", "192.168.3.1/24", "192.168.3.20/24")
	sh(t, guest, "ip route replace default via 192.168.3.1")
	sh(t, h.Gateway, `ip route add default via `+h.WANs[1].Router4.String()+` dev lte table 100
		ip rule add pref 1000 from 192.168.1.21 lookup 100
		ip rule add pref 1001 iif guest lookup 100
		ip rule add pref 1002 to `+h.all4[0].String()+` lookup 100`)
	rest := house{Rig: h.Rig, all4: h.all4[1:], all6: h.all6}
	ruled := func() {
		t.Helper()
		for _, w := range []ways{allBy(h.Hosts[1], "lte"), allBy(guest, "lte")} {
			w.only = 4
			h.leaves(t, w)
		}
		to := allBy(h.Host(), "lte")
		to.only = 4
		house{Rig: h.Rig, all4: h.all4[:1]}.leaves(t, to)
	}
	ruled()
	h.moveIn(t, "fibre", "lte")
	ruled()
	rest.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
}

// A rule sends the LAN by a VPN. While that is away its table is empty, and the rule says nothing.
func TestHouseWithRuleForAll(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.vpn(t, "wg0")
	const up = "ip route add default dev wg0 table 100; ip -6 route add default dev wg0 table 100"
	sh(t, h.Gateway, up+"\nip rule add pref 1000 iif lan0 lookup 100; ip -6 rule add pref 1000 iif lan0 lookup 100")
	h.leaves(t, allBy(h.Host(), "wg0"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, allBy(h.Host(), "wg0"))
	sh(t, h.Gateway, "ip route flush table 100; ip -6 route flush table 100")
	h.comes(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	sh(t, h.Gateway, up)
	h.comes(t, allBy(h.Host(), "wg0"))
}

// Rules can go by protocol and port.
func TestHouseWithRulesByPort(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	sh(t, h.Gateway, fmt.Sprintf(`for family in -4 -6; do
			ip $family rule add pref 1000 ipproto tcp dport %d lookup 100
			ip $family rule add pref 1001 ipproto udp dport %d lookup 100
		done
		ip route add default via %v dev lte table 100
		ip -6 route add default via %v dev lte table 100`, rig.Port, mirrorPort, h.WANs[1].Router4, h.WANs[1].Router6))
	nft(t, h.Gateway, "table ip6 masq6 {\n chain srcnat {\n type nat hook postrouting priority srcnat\n oifname lte masquerade\n }\n}")
	h.leaves(t, allBy(h.Host(), "lte"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, allBy(h.Host(), "lte"))
}

// A host that may go nowhere, by a rule or by its table, does not with braid either.
func TestHouseWithProhibitedHost(t *testing.T) {
	h := newHouse(t, lab.Options{Hosts: 2}, rig.DefaultUCI)
	sh(t, h.Gateway, `ip rule add pref 1000 from 192.168.1.21 prohibit
		ip -6 rule add pref 1000 from 2001:db8:1::21 lookup 100
		ip -6 route add blackhole default table 100`)
	h.leaves(t, allBy(h.Hosts[1], "nothing"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, allBy(h.Hosts[1], "nothing"), ways{from: h.Host(), udp: bothWANs, tcp: taken})
}
