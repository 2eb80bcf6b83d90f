// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// netifdOf is what netifd tells of an access network as its interface.
func netifdOf(w *lab.WAN, name, proto string) rig.Interface {
	in := rig.Interface{Name: name, Up: true, Proto: proto, L3Device: w.Name, Device: w.Name}
	if w.V4 != lab.None {
		in.IPv4 = rig.Addresses(w.Gateway4)
		in.Routes = append(in.Routes, rig.Default(w.Router4))
	}
	if w.V6 {
		in.IPv6 = rig.Addresses(w.Gateway6)
		in.Routes = append(in.Routes, rig.Default(w.Router6))
	}
	if w.RoutesLAN {
		in.Prefixes = rig.Addresses(lab.LANPrefix6)
	}
	return in
}

var netifdLAN = rig.Interface{Name: "lan", Up: true, Proto: "static", L3Device: "lan0", Device: "lan0",
	IPv4: rig.Addresses(netip.PrefixFrom(lab.Gateway4, 24)), IPv6: rig.Addresses(netip.PrefixFrom(lab.Gateway6, 64))}

// netifd starts it, with the LAN and these.
func (h house) netifd(t *testing.T, interfaces ...rig.Interface) *rig.Netifd {
	t.Helper()
	n, err := h.StartNetifd(append(interfaces, netifdLAN)...)
	must(t, err)
	return n
}

// wan is what the agent says of a WAN.
func (h house) wan(t *testing.T, name string) report.WAN {
	t.Helper()
	for _, w := range status(t, h.Rig).WANs {
		if w.Name == name {
			return w
		}
	}
	t.Fatalf("no WAN %s", name)
	return report.WAN{}
}

// received is what a device of the gateway's has, in bytes.
func (h house) received(t *testing.T, device string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(sh(t, h.Gateway, "cat /sys/class/net/"+device+"/statistics/rx_bytes"), 10, 64)
	must(t, err)
	return n
}

// downloads a file from an address of the server's, and tells what each of some devices has received of it.
func (h house) downloads(t *testing.T, from netip.Addr, bytes int64, devices ...string) map[string]int64 {
	t.Helper()
	before := make(map[string]int64)
	for _, d := range devices {
		before[d] = h.received(t, d)
	}
	transfer(t, fromNode(h.Rig, h.Host(), from, rig.Port), traffic.Download, bytes)
	for _, d := range devices {
		before[d] = h.received(t, d) - before[d]
	}
	return before
}

// fast is a line on which a download takes long enough for second subflows.
var fast = link.Spec{Rate: 40e6, Delay: 5 * time.Millisecond}

// A fibre with DS-Lite, as netifd makes it: IPv4 rides IPv6 to the carrier's AFTR. Flows of IPv4 stay
// on the fibre, and the subflows of what is taken need no tunnel.
func TestHouseWithDSLite(t *testing.T) {
	lte := lab.LTE(fast, fast)
	h := newHouse(t, lab.Options{Accesses: []lab.Access{{Name: "fibre", V4: lab.None, V6: true, Down: fast, Up: fast}, lte}},
		homeUCI("fibre; interface wan6", "lte; interface wwan; kind cellular"))
	h.tunnel(t, lab.Tunnel{Name: "ds-wan6_4", Over: "ip6:4"}, "192.0.0.2/29")
	sh(t, h.Gateway, `ip addr flush dev ds-wan6_4
		ip addr add 192.0.0.2 peer 192.0.0.1 dev ds-wan6_4
		ip route add default dev ds-wan6_4`)
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"ds-wan6_4"}, tcp: []string{"ds-wan6_4"}},
		ways{from: h.Host(), only: 6, udp: []string{"fibre"}, tcp: []string{"fibre"}})
	wwan := netifdOf(h.WAN("lte"), "wwan", "qmi")
	n := h.netifd(t, netifdOf(h.WAN("fibre"), "wan6", "dhcpv6"), wwan, rig.Interface{
		Name: "wan6_4", Up: true, Dynamic: true, Proto: "dslite", L3Device: "ds-wan6_4",
		IPv4:   []rig.Address{{Address: "192.0.0.2", Mask: 32, Peer: "192.0.0.1"}},
		Routes: []rig.Route{rig.Default(netip.IPv4Unspecified())},
	})
	h.moveIn(t, "fibre", "lte")
	h.livesOnFibre(t)
	must(t, h.WAN("lte").SetDown())
	must(t, n.Set(t.Context(), rig.Interface{Name: "wwan", Proto: "qmi", Device: "lte"}))
	working(t, h.Rig, "lte", false)
	h.livesOnFibre(t)
}

// carries waits until a subflow over a WAN, between addresses of which some may be said, has carried
// a megabyte.
func (h house) carries(t *testing.T, wan, local, remote string) {
	t.Helper()
	eventually(t, 8*time.Second, func() error {
		all := connections(t, h.Rig)
		for _, c := range all {
			for _, s := range c.Subflows {
				if s.WAN == wan && s.RX > 1e6 && strings.Contains(s.Local, local) && strings.Contains(s.Remote, remote) {
					return nil
				}
			}
		}
		return fmt.Errorf("no subflow over %s from %s to %s carries: %+v", wan, local, remote, all)
	})
}

// livesOnFibre fails unless IPv4 leaves by DS-Lite, IPv6 beside it, and what is taken by IPv6.
func (h house) livesOnFibre(t *testing.T) {
	t.Helper()
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"ds-wan6_4"}, tcp: taken},
		ways{from: h.Host(), only: 6, udp: []string{"fibre"}, tcp: taken})
	before := h.received(t, "ds-wan6_4")
	stop := background(t, h.FromHost(lab.Server4))
	h.carries(t, "fibre", "", lab.Converter6.String())
	stop()
	if n := h.received(t, "ds-wan6_4") - before; n > 1e5 {
		t.Errorf("the tunnel has carried %d bytes of what was taken", n)
	}
}

// A line of PPPoE has no IPv6 address of its own, and a prefix that is delegated.
func TestHouseWithDelegatedPrefixOnly(t *testing.T) {
	h := newHouse(t, lab.Options{Accesses: []lab.Access{{Name: "pppoe-wan", V6: true, Down: fast, Up: fast}, lab.LTE(fast, fast)}},
		strings.Replace(homeUCI("fibre; interface wan", "lte; interface wwan; kind cellular"), "\tlist address '192.0.2.10'\n", "", 1))
	sh(t, h.Gateway, `ip -6 addr flush dev pppoe-wan scope global
		ip -6 route replace default dev pppoe-wan metric 10`)
	h.leaves(t, allBy(h.Host(), "pppoe-wan"))
	wan := netifdOf(h.WAN("pppoe-wan"), "wan", "pppoe")
	wan.Device, wan.IPv6, wan.Prefixes = "eth1", nil, nil
	wan.Routes = wan.Routes[:1]
	h.netifd(t, wan, netifdOf(h.WAN("lte"), "wwan", "qmi"), rig.Interface{
		Name: "wan_6", Up: true, Dynamic: true, Proto: "dhcpv6", L3Device: "pppoe-wan", Device: "pppoe-wan",
		Prefixes: rig.Addresses(lab.LANPrefix6), Routes: []rig.Route{rig.Default(netip.IPv6Unspecified())},
		Assignments: []map[string]any{},
	})
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: []string{"pppoe-wan"}, tcp: taken})
	if w := h.wan(t, "fibre"); !w.IPv6 {
		t.Errorf("the fibre has no IPv6: %+v", w)
	}

	mirror(t, h.Host(), lab.Host6)
	before := h.Link("pppoe-wan").AB().Counters().Bytes
	in := udp(t, h.Server, lab.Host6)
	eventually(t, 5*time.Second, func() error {
		_, err := ask(h.Rig, in)
		return err
	})
	for range 20 {
		if _, err := ask(h.Rig, in); err != nil {
			t.Fatalf("from outside: %v", err)
		}
	}
	if n := h.Link("pppoe-wan").AB().Counters().Bytes - before; n < 20*50 {
		t.Errorf("the fibre has carried %d bytes of answers", n)
	}

	stop := background(t, h.FromHost(lab.Server6))
	defer stop()
	h.carries(t, "fibre", lab.Gateway6.String(), "")
}

// PPPoE for IPv4 and IPoE for IPv6 are two devices of one line.
func TestHouseWithPPPoEAndIPoE(t *testing.T) {
	h := newHouse(t, lab.Options{Accesses: []lab.Access{{Name: "pppoe-wan"}, {Name: "eth1", V4: lab.None, V6: true}, lab.LTE(link.Spec{}, link.Spec{})}},
		homeUCI("fibre; interface wan; interface wan6; role primary", "lte; interface wwan; kind cellular; role bond"))
	wan := netifdOf(h.WAN("pppoe-wan"), "wan", "pppoe")
	wan.Device = "eth1"
	v4, v6 := ways{from: h.Host(), only: 4, udp: []string{"pppoe-wan"}, tcp: []string{"pppoe-wan"}},
		ways{from: h.Host(), only: 6, udp: []string{"eth1"}, tcp: []string{"eth1"}}
	h.leaves(t, v4, v6)
	h.netifd(t, wan, netifdOf(h.WAN("eth1"), "wan6", "dhcpv6"), netifdOf(h.WAN("lte"), "wwan", "qmi"))
	h.moveIn(t, "fibre", "lte")
	if w := h.wan(t, "fibre"); w.IPv4 != "public" || !w.IPv6 {
		t.Errorf("the fibre is %+v", w)
	}
	if p := status(t, h.Rig).Problems; len(p) != 0 {
		t.Errorf("problems: %+v", p)
	}
	v4.udp, v4.tcp, v6.udp, v6.tcp = []string{"pppoe-wan", "lte"}, taken, []string{"eth1", "lte"}, taken
	h.leaves(t, v4, v6)
	h.Link("pppoe-wan").Blackhole(true) // the session has died, and IPoE not
	v4.udp = []string{"lte"}
	h.comes(t, v4)
	h.leaves(t, v6)
}

// A line whose device has also the address by which the modem's page is reached.
func TestHouseWithManagementAddress(t *testing.T) {
	h := newHouse(t, lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(fast, fast)}}, rig.DefaultUCI)
	sh(t, h.Gateway, `ip -4 addr flush dev fibre
		ip addr add 192.168.100.2/24 dev fibre
		ip addr add 198.51.100.2/24 dev fibre
		ip route add default via 198.51.100.1 dev fibre metric 10`)
	h.leaves(t, allBy(h.Host(), "fibre"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	stop := background(t, h.FromHost(lab.Server4))
	h.carries(t, "fibre", "198.51.100.2", "")
	h.carries(t, "lte", "", "")
	stop()
	if w := h.wan(t, "fibre"); w.IPv4 != "public" {
		t.Errorf("the fibre is %+v", w)
	}
}
