// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestLimitsFor(t *testing.T) {
	for _, tt := range []struct {
		name       string
		ram, files uint64
		want       Limits
		memory     int64 // MiB at most
	}{
		{"32 MB", 32 << 20, 65536, Limits{512, 256, 4}, 28},
		{"128 MB", 128 << 20, 65536, Limits{910, 455, 4}, 38},
		{"512 MB", 512 << 20, 65536, Limits{3640, 1820, 7}, 102},
		{"16 GB", 16 << 30, 65536, Limits{8192, 4096, 16}, 208},
		{"few files", 16 << 30, 4096, Limits{1365, 682, 4}, 48},
		{"memory unknown", 0, 65536, Limits{512, 256, 4}, 28},
	} {
		if l, memory := LimitsFor(tt.ram, tt.files); l != tt.want || memory > tt.memory<<20 {
			t.Errorf("%s: %+v and %d MiB, want %+v and %d", tt.name, l, memory>>20, tt.want, tt.memory)
		}
	}
}

// Whoever has too many connections passes, until it has had less for a while;
// others do not notice, unless all have too many together.
func TestCrowd(t *testing.T) {
	const waiting = 4
	host := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, n}) }
	c := crowd{limits: Limits{Total: 400, PerHost: 160, Waiting: waiting}, changedC: make(chan struct{}, 1)}
	now := time.Unix(1e6, 0)
	enter := func(h netip.Addr, n int) (got int) {
		for range n {
			if c.enter(h) {
				got++
			}
		}
		return got
	}
	leave := func(h netip.Addr, n, weight int) {
		for range n {
			c.add(h, -weight)
		}
	}
	look := func(what string, all bool, hosts ...netip.Addr) {
		t.Helper()
		if a, h := c.look(now); a != all || !slices.Equal(h, hosts) {
			t.Errorf("%s: %v, %v; want %v, %v", what, a, h, all, hosts)
		}
	}
	changed := func(what string, want bool) {
		t.Helper()
		select {
		case <-c.changedC:
			if !want {
				t.Errorf("%s: it is told", what)
			}
		default:
			if want {
				t.Errorf("%s: it is not told", what)
			}
		}
	}
	enter(host(20), 39)
	changed("below the limit", false)
	look("below the limit", false)
	if n := enter(host(20), 1000); n != 11 { // 50 wait, with the slack
		t.Errorf("%d more were let in", n)
	}
	changed("above it", true)
	look("above it", false, host(20))
	enter(host(21), 39)
	look("another one", false, host(20))
	leave(host(20), 49, waiting)
	look("just now", false, host(20))
	now = now.Add(crowdMemory)
	look("later", false)
	// Those that are carried count less.
	enter(host(20), 30)
	leave(host(20), 31, waiting-1)
	look("carried", false)
	enter(host(22), 39)
	changed("all together, soon", false)
	enter(host(23), 15)
	changed("all together", true)
	look("all together", true)
	if n := enter(host(24), 1000); n != 25 { // 500
		t.Errorf("%d more were let in", n)
	}
	leave(host(22), 39, waiting)
	leave(host(24), 25, waiting)
	look("fewer", true)
	now = now.Add(crowdMemory)
	look("fewer, later", false)
	leave(host(20), 31, 1)
	leave(host(21), 39, waiting)
	leave(host(23), 15, waiting)
	if c.load != 0 || len(c.hosts) != 0 {
		t.Errorf("%d of %v are left", c.load, c.hosts)
	}
	// Many hosts at once are the whole LAN.
	c.limits.Total = 100_000
	for n := range byte(maxCrowd + 1) {
		enter(host(100+n), 40)
	}
	look("many hosts", true)
}
