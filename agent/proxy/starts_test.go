// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/path"
	"braid/transport/mptcp"
)

// What is counted is what the open connections were last seen to have, whoever
// of the one who looks and the connection's end comes first.
func TestStarts(t *testing.T) {
	fibre, lte := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1::2")
	var p Proxy
	open := func(id uint64) *connection {
		c := &connection{id: id}
		p.table.appendLocked(c)
		if !p.table.carried(t.Context(), c, &mptcp.Conn{Local: netip.AddrPortFrom(fibre, 4000)}, path.Attempt{}) {
			t.Fatal("not carried")
		}
		return c
	}
	waiting := &connection{id: 1}
	p.table.appendLocked(waiting)
	a, b := open(2), open(3)
	for _, step := range []struct {
		name string
		do   func()
		open int
		want map[netip.Addr]int
	}{
		{"the first ones", func() {}, 2, map[netip.Addr]int{fibre: 2}},
		{"one has joined", func() { p.table.started(a, subflowsFrom(fibre, lte)) }, 2, map[netip.Addr]int{fibre: 2, lte: 1}},
		{"nothing new", func() { p.table.started(a, subflowsFrom(fibre, lte)) }, 2, map[netip.Addr]int{fibre: 2, lte: 1}},
		{"two from one address", func() { p.table.started(b, subflowsFrom(lte, lte)) }, 2, map[netip.Addr]int{fibre: 1, lte: 3}},
		{"none left", func() { p.table.started(b, nil) }, 2, map[netip.Addr]int{fibre: 1, lte: 1}},
		{"one not carried has ended", func() { p.table.remove(waiting) }, 2, map[netip.Addr]int{fibre: 1, lte: 1}},
		{"one has ended, told twice", func() { p.table.remove(a); p.table.remove(a) }, 1, map[netip.Addr]int{}},
		{"it was looked at before", func() { p.table.started(a, subflowsFrom(fibre, lte)) }, 1, map[netip.Addr]int{}},
	} {
		step.do()
		open, _ := p.Carried()
		if diff := cmp.Diff(step.want, p.Starts(), cmpopts.EquateComparable(netip.Addr{})); diff != "" || open != step.open {
			t.Errorf("%s: %d open, -want +got:\n%s", step.name, open, diff)
		}
	}
}
