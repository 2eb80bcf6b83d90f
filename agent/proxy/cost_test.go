// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	"braid/agent/path"
	"braid/test/alloc"
)

// What is allocated for a connection that a converter carries, from its accept to
// its end, counted by who allocates: what its host does, the converter and the
// server is not the gateway's.
func TestAllocations(t *testing.T) {
	const connections, bound = 500, 20 + alloc.Race
	alloc.Profile(t)
	s := serve(t)
	c, asked := converter(t, "athome", forward(0))
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	ask := func(times int) {
		for range times {
			if _, err := h.ask(request); err != nil {
				t.Fatal(err)
			}
		}
		h.idle()
	}
	ask(1)
	const own = "braid/agent/proxy.(*"
	before := alloc.By(own)
	ask(connections)
	each := float64(alloc.By(own)-before) / connections
	t.Logf("%.1f allocations a connection", each)
	if n := asked.Load(); each > bound || n != 1+connections {
		t.Errorf("%.1f allocations a connection, %d are the most; the converter was asked %d times", each, bound, n)
	}
}
