// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
)

// translator is a stateless one on the gateway, as netifd makes it for 464xlat and MAP-T: its device
// has a default route and no address, and the firewall gives what leaves by it the one that it maps.
func (h house) translator(t *testing.T, device, mapped string) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "tayga.conf")
	must(t, os.WriteFile(conf, []byte(fmt.Sprintf("tun-device %s\nipv4-addr 192.168.254.1\nprefix %s\nmap 192.0.0.1 %s\n", device, nat64, mapped)), 0o644))
	must(t, h.Gateway.Sysctl("net.ipv4.conf.all.rp_filter", "0")) // as OpenWrt has it; a device without address needs it
	sh(t, h.Gateway, fmt.Sprintf(`tayga --config %[1]s --mktun
		ip link set %[2]s up mtu 1480
		ip route add default dev %[2]s metric 2048
		ip route add 192.0.0.1 dev %[2]s
		ip route add %[3]s dev %[2]s
		tayga --config %[1]s >/dev/null 2>&1`, conf, device, mapped))
	nft(t, h.Gateway, fmt.Sprintf("table ip xlat {\n chain srcnat {\n type nat hook postrouting priority srcnat - 1\n oifname %q snat to 192.0.0.1\n }\n}", device))
}

// A cellular line with IPv6 alone, and IPv4 by 464xlat as netifd makes it.
func TestHouseWith464XLAT(t *testing.T) {
	h := newHouse(t, v6only(), homeUCI("fibre; interface wan; role primary", "lte; interface wwan; kind cellular; role bond"))
	h.translator(t, "464-wwan_6", "2001:db8:c::464")
	wwan6 := netifdOf(h.WAN("lte"), "wwan_6", "dhcpv6")
	wwan6.Dynamic = true
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), rig.Interface{Name: "wwan", Up: true, Proto: "qmi", L3Device: "lte", Device: "lte"}, wwan6, rig.Interface{
		Name: "wwan_6_4", Up: true, Dynamic: true, Proto: "464xlat", L3Device: "464-wwan_6",
		Routes: []rig.Route{{Target: "0.0.0.0", NextHop: "0.0.0.0", Metric: 2048, Source: "0.0.0.0/0"}},
	})
	sh(t, h.Gateway, `ip -6 route add default from 2001:db8:c::/64 via 2001:db8:c::1 dev lte metric 512
		ip route del default dev fibre`)
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"lte"}, tcp: []string{"lte"}})
	sh(t, h.Gateway, "ip route add default via "+h.WAN("fibre").Router4.String()+" dev fibre metric 10")
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	if w := h.wan(t, "lte"); w.IPv4 != "shared" || w.State != "up" {
		t.Errorf("lte is %+v", w)
	}
	leaves(t, h.Rig)
}

// MAP-T on the fixed line, alone: taken connections need IPv6 only, others go by the translator.
func TestHouseWithMAPT(t *testing.T) {
	o := v6only()
	fibre := lab.Access{Name: "fibre", V4: lab.None, V6: true, NAT64: o.Accesses[1].NAT64}
	h := newHouse(t, lab.Options{Accesses: []lab.Access{fibre}}, homeUCI("fibre; interface wan6"))
	h.translator(t, "map-wan6_4", "2001:db8:f::464")
	v4 := ways{from: h.Host(), only: 4, udp: []string{"fibre"}, tcp: []string{"fibre"}}
	h.leaves(t, v4)
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan6", "dhcpv6"), rig.Interface{
		Name: "wan6_4", Up: true, Dynamic: true, Proto: "map", L3Device: "map-wan6_4",
		Routes: []rig.Route{{Target: "0.0.0.0", NextHop: "0.0.0.0", Metric: 2048, Source: "0.0.0.0/0"}},
	})
	h.moveIn(t, "fibre")
	v4.tcp = taken
	h.comes(t, v4)
	h.leaves(t, ways{from: h.Host(), only: 6, udp: []string{"fibre"}, tcp: taken})
}

// A tunnel broker gives the house its IPv6, over a fibre without any. The prefix of the LAN is the
// broker's, and LTE beside it takes nothing of it.
func TestHouseWith6in4(t *testing.T) {
	for _, tt := range []struct{ name, uci string }{
		{"which is no WAN's", homeUCI("fibre; interface wan; role primary", "lte; interface wwan; kind cellular; role bond")},
		{"which is the fibre's", homeUCI("fibre; interface wan; interface henet; role primary", "lte; interface wwan; kind cellular; role overflow")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, lab.Options{Accesses: []lab.Access{{Name: "fibre"}, lab.LTE(link.Spec{}, link.Spec{})}}, tt.uci)
			p := h.tunnel(t, lab.Tunnel{Name: "6in4-henet", Over: "ip4:41", RoutesLAN: true}, "2001:db8:e6::2/64")
			sh(t, h.Gateway, "nft delete table inet masquerade_6in4-henet; ip -6 route add default dev 6in4-henet metric 1")
			v6 := allBy(h.Host(), p.Tunnel.Name)
			v6.only = 6
			h.leaves(t, v6)
			henet := rig.Interface{Name: "henet", Up: true, Proto: "6in4", L3Device: "6in4-henet", IPv6: rig.Addresses(p.Tunnel.Inside...),
				Routes: []rig.Route{{Target: "::", NextHop: "::", Metric: 1, Source: "::/0"}}, Prefixes: rig.Addresses(lab.LANPrefix6)}
			h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "qmi"), henet)
			h.moveIn(t, "fibre", "lte")
			v4 := ways{from: h.Host(), only: 4, udp: bothWANs, tcp: taken}
			if strings.Contains(tt.uci, "henet") {
				v6.tcp, v4.udp = taken, []string{"fibre"}
			}
			h.leaves(t, v4, v6)
		})
	}
}

// A LAN with unique local addresses alone, masqueraded on every WAN.
func TestHouseWithULA(t *testing.T) {
	h := newHouse(t, lab.Options{}, rig.DefaultUCI)
	sh(t, h.Gateway, "ip -6 addr flush dev lan0 scope global; ip addr add fd01::1/64 dev lan0 nodad")
	sh(t, h.Host(), "ip -6 addr flush dev eth0 scope global; ip addr add fd01::20/64 dev eth0 nodad; ip -6 route replace default via fd01::1")
	nft(t, h.Gateway, "table ip6 masq6 {\n chain srcnat {\n type nat hook postrouting priority srcnat\n ip6 saddr fd00::/8 oifname { \"fibre\", \"lte\" } masquerade\n }\n}")
	h.leaves(t, allBy(h.Host(), "fibre"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
}

// IPv6 that the fibre lacks does not make the metered line carry the house's.
func TestHouseWithIPv6OnBackupAlone(t *testing.T) {
	for _, role := range []string{"backup", "overflow"} {
		t.Run(role, func(t *testing.T) {
			h := newHouse(t, lab.Options{Accesses: []lab.Access{{Name: "fibre"}, lab.LTE(link.Spec{}, link.Spec{})}},
				homeUCI("fibre; device fibre; role primary", "lte; device lte; kind cellular; role "+role))
			h.moveIn(t, "fibre", "lte")
			h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"fibre"}, tcp: taken}, ways{from: h.Host(), only: 6, tcp: taken})
			if n := h.leave(t, h.Host(), "udp", h.all6); n["lte"] > 0 {
				t.Errorf("UDP to IPv6 servers leaves by %v", n)
			}
			if got := h.downloads(t, lab.Server6, 4e6, "fibre", "lte"); role == "backup" && got["lte"] > 4e5 {
				t.Errorf("of 4 MB have come %v", got)
			}
			must(t, h.WAN("fibre").SetDown())
			working(t, h.Rig, "fibre", false)
			h.comes(t, ways{from: h.Host(), udp: []string{"lte"}, tcp: taken})
		})
	}
}

// A line's only IPv6 address is deprecated, as in the hours of a provider's renumbering.
func TestHouseWithDeprecatedAddress(t *testing.T) {
	h := newHouse(t, lab.Options{}, strings.Replace(bondUCI, "\tlist address '192.0.2.10'\n", "", 1))
	sh(t, h.Gateway, "ip addr change 2001:db8:f::2/64 dev fibre preferred_lft 0")
	h.leaves(t, allBy(h.Host(), "fibre"))
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "qmi"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	if w := h.wan(t, "fibre"); !w.IPv6 {
		t.Errorf("the fibre has no IPv6: %+v", w)
	}
}

// PPPoE dials again and gets another address. What is open goes on, and the line carries it again.
func TestHouseThatRedials(t *testing.T) {
	h := newHouse(t, lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(fast, fast)}}, bondUCI)
	wan := netifdOf(h.WAN("fibre"), "wan", "pppoe")
	n := h.netifd(t, wan, netifdOf(h.WAN("lte"), "wwan", "qmi"))
	h.moveIn(t, "fibre", "lte")
	sh(t, h.Core, "ip route add $(ip route show 198.51.100.2 | sed s/198.51.100.2/198.51.100.77/)")
	stop := background(t, h.FromHost(lab.Server4))
	time.Sleep(time.Second)
	must(t, h.WAN("fibre").SetDown())
	must(t, n.Set(t.Context(), rig.Interface{Name: "wan", Proto: "pppoe", Device: "fibre"}))
	sh(t, h.Gateway, "ip -4 addr flush dev fibre")
	working(t, h.Rig, "fibre", false)
	must(t, h.WAN("fibre").SetUp())
	sh(t, h.Gateway, `ip -4 addr flush dev fibre
		ip addr add 198.51.100.77/24 dev fibre
		ip route add default via 198.51.100.1 dev fibre metric 10`)
	wan.IPv4[0].Address = "198.51.100.77"
	must(t, n.Set(t.Context(), wan))
	working(t, h.Rig, "fibre", true)
	carried := h.received(t, "fibre")
	eventually(t, 10*time.Second, func() error {
		if n := h.received(t, "fibre") - carried; n < 2e6 {
			return fmt.Errorf("the fibre has carried %d bytes since it dialled again", n)
		}
		return nil
	})
	stop()
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"198.51.100.77", "lte"}, tcp: taken})
}
