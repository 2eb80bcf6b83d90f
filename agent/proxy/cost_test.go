// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"runtime"
	"strings"
	"testing"

	"braid/agent/path"
)

// What is allocated for a connection that a converter carries, from its accept to
// its end, counted by who allocates: what its host does, the converter and the
// server is not the gateway's.
func TestAllocations(t *testing.T) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	const connections, bound = 500, 48
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
	before := allocated()
	ask(connections)
	each := float64(allocated()-before) / connections
	t.Logf("%.1f allocations a connection", each)
	if n := asked.Load(); each > bound || n != 1+connections {
		t.Errorf("%.1f allocations a connection, %d are the most; the converter was asked %d times", each, bound, n)
	}
}

// allocated is how many objects connections have allocated so far, by the profile.
func allocated() (n int64) {
	runtime.GC() // twice, by which the profile is whole
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 1<<14)
	found, ok := runtime.MemProfile(records, true)
	if !ok {
		panic("the profile is longer than that")
	}
	for _, r := range records[:found] {
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if strings.HasPrefix(f.Function, "braid/agent/proxy.(*") && !strings.HasSuffix(f.File, "_test.go") {
				n += r.AllocObjects
				break
			}
		}
	}
	return n
}
