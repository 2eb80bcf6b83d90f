// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"braid/agent/netstate"
	"braid/agent/plan"
)

// An address that is away for long is lost once: not one that comes back soon, nor
// one that another device has, and not again when all has been done about it.
func TestAddresses(t *testing.T) {
	gone, back, moved := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:f::2"), netip.MustParseAddr("100.64.0.2")
	host := func(addrs ...netip.Addr) (s netstate.Snapshot) {
		for _, a := range addrs {
			s.Links = append(s.Links, netstate.Link{Up: true, Addrs: []netstate.Addr{{Prefix: netip.PrefixFrom(a, 24)}}})
		}
		return s
	}
	var a addresses
	start := time.Now()
	at := func(d time.Duration, net netstate.Snapshot, want ...netip.Addr) {
		t.Helper()
		if got := a.lost(net, start.Add(d)); !slices.Equal(got, want) {
			t.Errorf("after %v %v are lost, want %v", d, got, want)
		}
	}
	at(0, host())
	a.note(plan.Plan{WANs: []plan.WAN{{Legs: []plan.Leg{{Addrs: []netip.Addr{gone, moved}}, {Addrs: []netip.Addr{back}, IPv6: true}}}}}, true)
	at(0, host(gone, back, moved))
	at(time.Second, host(moved))
	at(time.Second+awayFor/2, host(moved, back))
	at(time.Second+awayFor, host(moved, back), gone)
	a.note(plan.Plan{Lost: []netip.Addr{gone}}, false)
	at(2*time.Second+awayFor, host(moved, back), gone)
	a.note(plan.Plan{Lost: []netip.Addr{gone}}, true)
	at(3*time.Second+awayFor, host(moved, back))
	down := host(back, moved)
	down.Links[1].Up = false
	at(time.Minute, down)
	at(time.Minute+awayFor, down, moved)
}
