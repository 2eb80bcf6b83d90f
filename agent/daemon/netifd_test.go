// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

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
		"dns-server": []string{"192.0.2.53"}, "ipv6-prefix": []table{{"address": "2001:db8:100::", "mask": 56, "preferred": 1800}}}
	downWAN = table{"interface": "wan", "up": false, "proto": "dhcp", "device": "eth1", "dynamic": false}
)

// follow starts what is tested, and returns how to get its next list.
func follow(t *testing.T, socket string) (n *netifd, next func() []netstate.Interface) {
	t.Helper()
	c := ubus.NewClient(socket)
	n = newNetifd(c)
	run(t, c.Run)
	run(t, n.run)
	return n, func() []netstate.Interface {
		t.Helper()
		receive(t, "change", n.changedC)
		return n.list()
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
	socket := startBus(t)
	_, next := follow(t, socket)

	var f fakeNetifd
	f.set(upWAN, upLAN)
	object, client := publish(t, socket, netifdObject, "dump", f.dump)
	lan := netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"}
	wan := netstate.Interface{Name: "wan", Up: true, L3Device: "eth1", Proto: "dhcp",
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:100::/56")}}
	expect(t, next(), lan, wan)

	notify := func(event, name string) {
		t.Helper()
		if err := object.Notify(t.Context(), event, table{"interface": name}); err != nil {
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
	publish(t, socket, netifdObject, "dump", f.dump)
	expect(t, next(), lan)
}

// A netifd that does not answer at once is asked again, and what it said
// before holds meanwhile.
func TestNetifdFails(t *testing.T) {
	socket := startBus(t)
	var f fakeNetifd
	f.set(upLAN)
	object, _ := publish(t, socket, netifdObject, "dump", f.dump)
	n, next := follow(t, socket)
	lan := netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"}
	expect(t, next(), lan)

	f.fail(ubus.ErrTimeout)
	f.set()
	if err := object.Notify(t.Context(), "interface.down", table{}); err != nil {
		t.Fatal(err)
	}
	for f.count() < 2 {
		time.Sleep(time.Millisecond)
	}
	expect(t, n.list(), lan)
	f.fail(nil)
	expect(t, next(), []netstate.Interface{}...)
}

func (f *fakeNetifd) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func TestReadFirst(t *testing.T) {
	socket := startBus(t)
	var f fakeNetifd
	f.set(upLAN)
	publish(t, socket, netifdObject, "dump", f.dump)
	n := newNetifd(nil)
	n.readFirst(t.Context(), socket)
	expect(t, n.list(), netstate.Interface{Name: "lan", Up: true, L3Device: "br-lan", Proto: "static"})
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
