// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"braid/test/lab"
	"braid/test/rig"
)

// All of a house is behind a VPN while that is up: by the better default route in main.
func TestHouseBehindVPN(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			h := newHouse(t, lab.Options{}, backend(t, b, rig.DefaultUCI))
			h.vpn(t, "wg0")
			const up = "ip route add default dev wg0 metric 1; ip -6 route add default dev wg0 metric 1"
			const down = "ip route del default dev wg0 metric 1; ip -6 route del default dev wg0 metric 1"
			sh(t, h.Gateway, up)
			h.leaves(t, allBy(h.Host(), "wg0"))
			h.moveIn(t)
			notTaken(t, h.Rig, func() { h.leaves(t, allBy(h.Host(), "wg0"), allBy(h.Gateway, "wg0")) })
			h.unmarked(t, lab.Host4)
			h.unmarked(t, lab.Host6)
			h.told(t, "wg0")
			for range 2 {
				sh(t, h.Gateway, down)
				h.comes(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
				sh(t, h.Gateway, up)
				h.comes(t, allBy(h.Host(), "wg0"))
			}
			notTaken(t, h.Rig, func() { h.leaves(t, allBy(h.Host(), "wg0")) })
		})
	}
}

// A VPN that carries IPv4 alone leaves IPv6 to braid.
func TestHouseBehindVPNOfOneFamily(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.vpn(t, "wg0")
	sh(t, h.Gateway, "ip route add default dev wg0 metric 1")
	v4 := allBy(h.Host(), "wg0")
	v4.only = 4
	h.leaves(t, v4)
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, v4, ways{from: h.Host(), udp: bothWANs, tcp: taken, only: 6})
}

// Without the VPN nothing is to leave: behind its default route is an unreachable one.
func TestHouseWithKillSwitch(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.vpn(t, "wg0")
	sh(t, h.Gateway, `for family in -4 -6; do
			ip $family route add default dev wg0 metric 1
			ip $family route add unreachable default metric 2
		done`)
	h.leaves(t, allBy(h.Host(), "wg0"))
	h.moveIn(t)
	h.leaves(t, allBy(h.Host(), "wg0"))
	sh(t, h.Gateway, "ip link set wg0 down") // takes its routes along
	h.leaves(t, allBy(h.Host(), "nothing"))
}

// OpenVPN's redirect-gateway def1 covers the default route with two halves of it.
func TestHouseWithHalvedDefaultRoute(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.vpn(t, "tun0")
	sh(t, h.Gateway, `ip route add 0.0.0.0/1 dev tun0
		ip route add 128.0.0.0/1 dev tun0
		ip -6 route add 2000::/3 dev tun0`)
	h.leaves(t, allBy(h.Host(), "tun0"))
	h.moveIn(t)
	h.leaves(t, allBy(h.Host(), "tun0"))
}

// wg-quick's rules send all but WireGuard's own packets to a table with a default route. They get
// the preferences before the lowest there is, main's or braid's.
func TestHouseBehindWGQuick(t *testing.T) {
	const up = `for family in -4 -6; do
			ip $family route add default dev wg0 table 51820
			ip $family rule add not fwmark 51820 table 51820
			ip $family rule add table main suppress_prefixlength 0
		done`
	const down = `for family in -4 -6; do
			ip $family rule del not fwmark 51820 table 51820
			ip $family rule del table main suppress_prefixlength 0
			ip $family route del default dev wg0 table 51820
		done`
	wg0 := lab.Tunnel{Name: "wg0", Over: "udp4", Mark: 51820}
	t.Run("up before braid", func(t *testing.T) {
		h := newHouse(t, lab.Options{}, rig.DefaultUCI)
		h.tunnel(t, wg0, "10.9.0.2/24", "fd09::2/64")
		sh(t, h.Gateway, up)
		h.leaves(t, allBy(h.Host(), "wg0"))
		h.moveIn(t)
		h.leaves(t, allBy(h.Host(), "wg0"), allBy(h.Gateway, "wg0"))
		sh(t, h.Gateway, down)
		h.comes(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	})
	t.Run("up after braid", func(t *testing.T) {
		h := newHouse(t, lab.Options{}, rig.DefaultUCI)
		h.tunnel(t, wg0, "10.9.0.2/24", "fd09::2/64")
		h.moveIn(t, "fibre", "lte")
		h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
		sh(t, h.Gateway, up)
		h.comes(t, allBy(h.Host(), "wg0"), allBy(h.Gateway, "wg0"))
		sh(t, h.Gateway, down)
		h.comes(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	})
}

// Tailscale looks all packets up in its table 52. With an exit node that has a default route, and
// without one the routes of its peers.
func TestHouseWithTailscale(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	h.tunnel(t, lab.Tunnel{Name: "tailscale0", Over: "udp4", Mark: 0x80000}, "100.101.0.2/16", "fd7a:115c:a1e0::2/64")
	sh(t, h.Gateway, `for family in -4 -6; do
			ip $family rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
			ip $family rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
			ip $family rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
			ip $family rule add pref 5270 lookup 52
			ip $family route add default dev tailscale0 table 52
		done
		ip route add throw 192.168.1.0/24 table 52
		ip -6 route add throw 2001:db8:1::/64 table 52`)
	h.leaves(t, allBy(h.Host(), "tailscale0"))
	h.moveIn(t)
	h.leaves(t, allBy(h.Host(), "tailscale0"), allBy(h.Gateway, "tailscale0"))
	sh(t, h.Gateway, `ip route replace `+h.all4[0].String()+` dev tailscale0 table 52
		ip route del default dev tailscale0 table 52
		ip -6 route del default dev tailscale0 table 52`)
	peer := house{Rig: h.Rig, all4: h.all4[:1]}
	rest := house{Rig: h.Rig, all4: h.all4[1:], all6: h.all6}
	rest.comes(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	behind := allBy(h.Host(), "tailscale0")
	behind.only = 4
	peer.leaves(t, behind)
}
