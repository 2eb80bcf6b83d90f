// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netifd

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/netstate"
	"braid/agent/ubus"
	"braid/test/bus"
)

type table = map[string]any

// fakeNetifd answers "dump" with whatever it holds at the moment.
type fakeNetifd struct {
	mu         sync.Mutex
	interfaces []table
	err        error
	asked      int
}

func (f *fakeNetifd) set(interfaces ...table) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interfaces = interfaces
}

func (f *fakeNetifd) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeNetifd) dump() (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return table{"interface": slices.Clone(f.interfaces)}, f.err
}

var (
	upLAN = table{"interface": "lan", "up": true, "proto": "static", "l3_device": "br-lan", "device": "br-lan", "dynamic": false}
	upWAN = table{"interface": "wan", "up": true, "proto": "dhcp", "l3_device": "eth1", "device": "eth1", "dynamic": false,
		"dns-server": []string{"192.0.2.53"}, "ipv6-prefix": []table{{"address": "2001:db8:100::", "mask": 56, "preferred": 1800}},
		"route": []table{
			{"target": "0.0.0.0", "mask": 0, "nexthop": "192.0.2.1", "source": "192.0.2.9/32"},
			{"target": "192.0.2.53", "mask": 32, "nexthop": "192.0.2.1", "source": "0.0.0.0/0"},
			{"target": "::", "mask": 0, "nexthop": "fe80::1", "metric": 512, "source": "2001:db8:100::/56", "table": 26},
			{"target": "0.0.0.0", "mask": 0, "nexthop": "0.0.0.0", "source": "0.0.0.0/0"},
		}}
	downWAN = table{"interface": "wan", "up": false, "proto": "dhcp", "device": "eth1", "dynamic": false}
)

// follow starts what is tested, and returns how to get its next list.
func follow(t *testing.T, socket string) (n *Monitor, next func() []netstate.Interface) {
	t.Helper()
	c := ubus.NewClient(socket)
	n = NewMonitor(c)
	bus.Run(t, c.Run)
	bus.Run(t, n.Run)
	return n, func() []netstate.Interface {
		t.Helper()
		bus.Receive(t, "change", n.changedC)
		return n.Interfaces()
	}
}

func expect(t *testing.T, got []netstate.Interface, want ...netstate.Interface) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// netifd comes after us, its interfaces go up and down, one is renamed, and it
// restarts.
func TestNetifdFollowed(t *testing.T) {
	socket := bus.Start(t)
	_, next := follow(t, socket)

	var f fakeNetifd
	f.set(upWAN, upLAN)
	published, client := bus.Publish(t, socket, object, "dump", f.dump)
	lan := netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"}
	wan := netstate.Interface{Name: "wan", Up: true, L3Device: "eth1", Proto: "dhcp",
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:100::/56")},
		Defaults: []netstate.Default{
			{Gateway: netip.MustParseAddr("192.0.2.1"), Table: 254, Source: netip.MustParseAddr("192.0.2.9")},
			{Gateway: netip.MustParseAddr("fe80::1"), IPv6: true, Table: 26, Metric: 512},
			{Table: 254},
		}}
	expect(t, next(), lan, wan)

	notify := func(event, name string) {
		t.Helper()
		if err := published.Notify(t.Context(), event, table{"interface": name}); err != nil {
			t.Fatal(err)
		}
	}
	f.set(downWAN, upLAN)
	notify("interface.down", "wan")
	wan = netstate.Interface{Name: "wan", L3Device: "eth1", Proto: "dhcp"}
	expect(t, next(), lan, wan)

	f.set(upLAN, table{"interface": "uplink", "up": true, "proto": "dhcp", "l3_device": "eth1", "device": "eth1"})
	notify("interface.update", "uplink")
	uplink := netstate.Interface{Name: "uplink", Up: true, L3Device: "eth1", Proto: "dhcp"}
	expect(t, next(), lan, uplink)

	// Gone and back, with another network.
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	f.set(upLAN)
	bus.Publish(t, socket, object, "dump", f.dump)
	expect(t, next(), lan)
}

// A netifd that does not answer at once is asked again, and what it said
// before holds meanwhile.
func TestNetifdFails(t *testing.T) {
	socket := bus.Start(t)
	var f fakeNetifd
	f.set(upLAN)
	published, _ := bus.Publish(t, socket, object, "dump", f.dump)
	n, next := follow(t, socket)
	lan := netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"}
	expect(t, next(), lan)

	f.fail(ubus.ErrTimeout)
	f.set()
	if err := published.Notify(t.Context(), "interface.down", table{}); err != nil {
		t.Fatal(err)
	}
	for f.count() < 2 {
		time.Sleep(time.Millisecond)
	}
	expect(t, n.Interfaces(), lan)
	f.fail(nil)
	expect(t, next(), []netstate.Interface{}...)
}

func (f *fakeNetifd) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func TestReadFirst(t *testing.T) {
	socket := bus.Start(t)
	var f fakeNetifd
	f.set(upLAN)
	bus.Publish(t, socket, object, "dump", f.dump)
	n := NewMonitor(nil)
	n.ReadFirst(t.Context(), socket)
	expect(t, n.Interfaces(), netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"})
}

// Dynamic interfaces belong to the one they were made for.
func TestParents(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dynamic bool
		parent  string
	}{
		{"wwan", false, ""},
		{"wwan_4", true, "wwan"},
		{"wwan_6", true, "wwan"},
		{"wwan_6_4", true, "wwan_6"},
		{"wwan_4", false, ""}, // somebody's own
		{"wwan2_4", true, ""},
	} {
		all := []dumped{{Interface: "ww"}, {Interface: "wwan"}, {Interface: "wwan_6", Dynamic: true}}
		if got := (dumped{Interface: tt.name, Dynamic: tt.dynamic}).parent(all); got != tt.parent {
			t.Errorf("%s, dynamic %v: parent %q, want %q", tt.name, tt.dynamic, got, tt.parent)
		}
	}
}
