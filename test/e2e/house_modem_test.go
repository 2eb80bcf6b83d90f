// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

var stick = netip.MustParsePrefix("192.168.8.100/24")

// Two modem sticks of a kind give the gateway the same address, and have the same one themselves.
// Subflows can start from it over one of them: the first that works and is not off.
func TestHouseWithTwoSticks(t *testing.T) {
	two := func() lab.Options {
		one, other := lab.LTE(fast, fast), lab.LTE(fast, fast)
		one.Name, other.Name = "usb0", "usb1"
		one.Inside4, other.Inside4 = stick, stick
		one.V6, other.V6 = false, false
		return lab.Options{Accesses: []lab.Access{one, other}}
	}
	second := func(t *testing.T, h house) {
		t.Helper()
		h.comes(t, ways{from: h.Host(), only: 4, udp: []string{"usb1"}, tcp: taken})
		if n := h.downloads(t, lab.Server4, 2e6, "usb0", "usb1"); n["usb1"] < 2e6 {
			t.Errorf("of 2 MB have come %v", n)
		}
		h.leaves(t, ways{from: h.Gateway, only: 4, udp: []string{"usb1"}, tcp: []string{"usb1"}})
	}
	uci := homeUCI("one; device usb0; role primary", "two; device usb1; role bond")
	for name, dies := range map[string]func(t *testing.T, h house){
		"the first goes down":    func(t *testing.T, h house) { must(t, h.WAN("usb0").SetDown()) },
		"the first is silent":    func(t *testing.T, h house) { h.Link("usb0").Blackhole(true) },
		"the first is unplugged": func(t *testing.T, h house) { sh(t, h.Gateway, "ip link set usb0 down; ip addr flush dev usb0") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, two(), uci)
			h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"usb0"}, tcp: []string{"usb0"}})
			h.moveIn(t, "one", "two")
			h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"usb0", "usb1"}, tcp: taken})
			dies(t, h)
			working(t, h.Rig, "one", false)
			second(t, h)
		})
	}
	t.Run("the first is off", func(t *testing.T) {
		h := newHouse(t, two(), strings.Replace(uci, "role 'primary'", "role 'off'", 1))
		h.moveIn(t, "two")
		second(t, h)
	})
}

// Two sticks of a kind that give out different addresses of the same network: both carry.
func TestHouseWithTwoSticksOfOneNetwork(t *testing.T) {
	one, other := lab.LTE(fast, fast), lab.LTE(fast, fast)
	one.Name, other.Name = "usb0", "usb1"
	one.Inside4, other.Inside4 = stick, netip.MustParsePrefix("192.168.8.101/24")
	one.V6, other.V6 = false, false
	h := newHouse(t, lab.Options{Accesses: []lab.Access{one, other}}, homeUCI("one; device usb0; role primary", "two; device usb1; role bond"))
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"usb0"}, tcp: []string{"usb0"}})
	h.moveIn(t, "one", "two")
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"usb0", "usb1"}, tcp: taken})
	if n := h.downloads(t, lab.Server4, 16e6, "usb0", "usb1"); n["usb0"] < 4e6 || n["usb1"] < 4e6 {
		t.Errorf("of 16 MB have come %v", n)
	}
}

// A modem is pulled out and plugged in again: its device is another one of the same name.
func TestHouseWithModemPluggedAgain(t *testing.T) {
	h := newHouse(t, onEthernet(), homeUCI("fibre; device fibre; role primary", "lte; device lte; role bond"))
	h.moveIn(t, "fibre", "lte")
	both := ways{from: h.Host(), udp: bothWANs, tcp: taken}
	h.leaves(t, both)
	sh(t, h.Gateway, "ip link del lte")
	working(t, h.Rig, "lte", false)
	h.comes(t, ways{from: h.Host(), udp: []string{"fibre"}, tcp: taken})
	sh(t, h.Gateway, "ip link add fill type veth peer name fill2") // which takes the old device's index
	must(t, h.Replug(h.WAN("lte")))
	must(t, h.WAN("lte").SetUp())
	working(t, h.Rig, "lte", true)
	h.comes(t, both)
	stop := background(t, h.FromHost(lab.Server4))
	defer stop()
	h.carries(t, "lte", "", "")
}

// Modems behind one switch, each with a device name of the gateway's: the kernel answers ARP for any
// address on any device, until it is told not to.
func TestHouseWithOneSegment(t *testing.T) {
	var accesses []lab.Access
	for i := range 3 {
		a := lab.LTE(fast, fast)
		a.Name, a.V6, a.Switch = fmt.Sprintf("eth%d", i+1), false, "switch1"
		a.Inside4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(8 + i), 100}), 24)
		accesses = append(accesses, a)
	}
	h := newHouse(t, lab.Options{Accesses: accesses}, homeUCI("one; device eth1; role primary", "two; device eth2; role bond", "three; device eth3; role bond"))
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"eth1"}, tcp: []string{"eth1"}})
	h.moveIn(t, "one", "two", "three")
	for range 5 { // neighbours are forgotten and asked for anew
		for _, w := range h.WANs {
			sh(t, w.Router, "ip neigh flush dev gw")
			before := h.received(t, w.Name)
			c, err := w.Router.Dial(t.Context(), net.Dialer{}, "udp", w.Gateway4.Addr().String()+":9")
			must(t, err)
			c.Write(make([]byte, 1000))
			c.Close()
			eventually(t, 2*time.Second, func() error {
				if n := h.received(t, w.Name) - before; n < 1000 {
					return fmt.Errorf("%s has received %d bytes of a datagram of 1,000", w.Name, n)
				}
				return nil
			})
		}
	}
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"eth1", "eth2", "eth3"}, tcp: taken})
	stop := background(t, h.FromHost(lab.Server4))
	defer stop()
	for _, w := range []string{"one", "two", "three"} {
		h.carries(t, w, "", "")
	}
}

// Three modems behind one switch, and one device of the gateway's with an address in each one's network.
func TestHouseWithThreeModemsOnOneDevice(t *testing.T) {
	var accesses []lab.Access
	for i := range 3 {
		a := lab.LTE(fast, fast)
		a.Name, a.V6, a.Switch = fmt.Sprintf("eth%d", i+1), false, "switch1"
		a.Inside4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(8 + i), 100}), 24)
		accesses = append(accesses, a)
	}
	h := newHouse(t, lab.Options{Accesses: accesses}, homeUCI("one; interface wan1; role primary", "two; interface wan2; role bond", "three; interface wan3; role bond"))
	var interfaces []rig.Interface
	for i, w := range h.WANs {
		in := netifdOf(w, fmt.Sprintf("wan%d", i+1), "static")
		in.L3Device, in.Device, in.Metric = "eth1", "eth1", 10*(i+1)
		in.Routes[0].Metric = in.Metric
		interfaces = append(interfaces, in)
		if i > 0 {
			sh(t, h.Gateway, fmt.Sprintf(`ip link del %[1]s
				ip addr add %[2]v dev eth1
				ip route add default via %[3]v dev eth1 metric %[4]d`, w.Name, w.Gateway4, w.Router4, in.Metric))
		}
	}
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"eth1"}, tcp: []string{"eth1"}})
	h.netifd(t, interfaces...)
	h.moveIn(t, "one", "two", "three")
	h.leaves(t, ways{from: h.Host(), only: 4, udp: []string{"eth1", "eth2", "eth3"}, tcp: taken})
	stop := background(t, h.FromHost(lab.Server4))
	defer stop()
	for _, w := range h.WANs {
		eventually(t, 10*time.Second, func() error {
			if n := sh(t, w.Router, "cat /sys/class/net/core/statistics/rx_bytes"); len(strings.TrimSpace(n)) < 6 {
				return fmt.Errorf("%s has brought %s bytes", w.Name, n)
			}
			return nil
		})
	}
}
