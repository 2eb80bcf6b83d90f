// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
)

// bondUCI bonds two lines by netifd's interfaces.
var bondUCI = homeUCI("fibre; interface wan; role primary", "lte; interface wwan; kind cellular; role bond")

// onEthernet are the default lab's lines at a switch each: their devices have neighbours, so that the
// way out is by a router that somebody has to tell of.
func onEthernet() lab.Options {
	fibre, lte := lab.Fibre(link.Spec{}, link.Spec{}), lab.LTE(link.Spec{}, link.Spec{})
	fibre.Switch, lte.Switch = "switch1", "switch2"
	return lab.Options{Accesses: []lab.Access{fibre, lte}}
}

// into moves the IPv4 of a WAN to a table, as netifd does with option ip4table. Like netifd's, a
// default route there replaces another.
func (h house) into(t *testing.T, table int, w *lab.WAN, in *rig.Interface) {
	t.Helper()
	in.IP4Table = table
	sh(t, h.Gateway, fmt.Sprintf(`
		ip route del default dev %[1]s
		ip route del %[2]v dev %[1]s
		ip route add %[2]v dev %[1]s src %[3]v table %[5]d
		ip route replace default via %[4]v dev %[1]s table %[5]d
		ip rule add pref 10000 from %[3]v lookup %[5]d
		ip rule add pref 20000 to %[2]v lookup %[5]d
		ip rule add pref $((90000 + $(cat /sys/class/net/%[1]s/ifindex))) iif lo lookup %[5]d`,
		w.Name, w.Gateway4.Masked(), w.Gateway4.Addr(), w.Router4, table))
}

// A WAN whose routes are in a table of its own is one all the same; also where main has no default
// route at all.
func TestHouseWithTables(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tables map[string]int
	}{
		{"one WAN", map[string]int{"fibre": 26}},
		{"both WANs", map[string]int{"fibre": 26, "lte": 27}},
		{"both in one", map[string]int{"fibre": 26, "lte": 26}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, onEthernet(), bondUCI)
			wan, wwan := netifdOf(h.WAN("fibre"), "wan", "static"), netifdOf(h.WAN("lte"), "wwan", "static")
			for name, table := range tt.tables {
				in := map[string]*rig.Interface{"fibre": &wan, "lte": &wwan}[name]
				h.into(t, table, h.WAN(name), in)
			}
			if len(tt.tables) == 1 {
				h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"lte"}, tcp: []string{"lte"}})
			}
			h.netifd(t, wan, wwan)
			h.moveIn(t, "fibre", "lte")
			h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
			for _, name := range bothWANs {
				if w := h.wan(t, name); w.State != "up" || w.IPv4 == "none" {
					t.Errorf("%s is %+v", name, w)
				}
			}
		})
	}
}

// Two WANs without metric: the default route of the last replaces that of the first, and netifd alone
// knows both.
func TestHouseWithoutMetric(t *testing.T) {
	h := newHouse(t, onEthernet(), bondUCI)
	sh(t, h.Gateway, `ip route del default dev fibre
		ip route del default dev lte
		ip route add default via `+h.WAN("fibre").Router4.String()+` dev fibre`)
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"fibre"}, tcp: []string{"fibre"}})
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "dhcp"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	h.leaves(t, ways{from: h.Gateway, udp: []string{"fibre"}})
}

// Default routes come in many shapes: of IPv6 by source, as netifd makes them; by routers that are known
// by their link-local addresses, which may be the same; or beside the device's own networks.
func TestHouseWithUnusualDefaults(t *testing.T) {
	for name, script := range map[string]string{
		"same metric": `ip route del default dev fibre
			ip route del default dev lte
			ip route add default via R1 dev fibre metric 10
			ip route append default via R2 dev lte metric 10`,
		"same metric of IPv6": `ip -6 route del default dev lte
			ip -6 route append default via fe80::1 dev lte metric 10`,
		"two next hops": `ip route del default dev fibre
			ip route del default dev lte
			ip route add default nexthop via R1 dev fibre nexthop via R2 dev lte`,
		"by source": `ip -6 route del default dev fibre
			ip -6 route del default dev lte
			ip -6 route add default from 2001:db8:1::/64 via 2001:db8:f::1 dev fibre metric 512
			ip -6 route add default from 2001:db8:f::/64 via 2001:db8:f::1 dev fibre metric 512
			ip -6 route add default from 2001:db8:c::/64 via 2001:db8:c::1 dev lte metric 512`,
		"in table default": `for family in -4 -6; do
				ip $family route del default dev fibre
				ip $family route del default dev lte
			done
			ip route add default via R1 dev fibre metric 10 table default
			ip route add default via R2 dev lte metric 20 table default
			ip -6 rule add pref 32767 lookup default
			ip -6 route add default via fe80::1 dev fibre metric 10 table default
			ip -6 route add default via fe80::1 dev lte metric 20 table default`,
		"before an unreachable one": `ip route add unreachable default metric 9999
			ip -6 route add unreachable default metric 9999`,
		"link-local routers": `ip -6 route replace default via fe80::1 dev fibre metric 10
			ip -6 route replace default via fe80::1 dev lte metric 20`,
		"router outside": `ip -4 addr flush dev fibre
			ip addr add 198.51.100.2/32 dev fibre
			ip route add default via R1 dev fibre onlink metric 10`,
		"IPv4 by a router of IPv6": `ip route del default dev fibre
			ip -4 route add default via inet6 fe80::1 dev fibre metric 10`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, onEthernet(), bondUCI)
			for _, w := range h.WANs {
				sh(t, w.Router, "ip addr add fe80::1/64 dev gw nodad")
			}
			r := strings.NewReplacer("R1", h.WAN("fibre").Router4.String(), "R2", h.WAN("lte").Router4.String())
			sh(t, h.Gateway, r.Replace(script))
			if !strings.HasPrefix(name, "two next hops") && !strings.HasPrefix(name, "same metric of") { // which share flows out
				h.leaves(t, allBy(h.Host(), "fibre"))
			}
			h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "dhcp"))
			h.moveIn(t, "fibre", "lte")
			h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
		})
	}
}
