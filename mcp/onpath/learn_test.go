// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"net/netip"
	"testing"
	"time"

	"braid/mcp/config"
)

// A client is tried, ever more seldom, until it takes what is lent; then it is
// lent to until it has not for a day.
func TestLearn(t *testing.T) {
	cs := clients{seen: make(map[netip.Addr]habit)}
	cs.set(config.LendTo{Learned: true})
	client, other := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8")
	now := time.Unix(1e9, 0)
	var trials []time.Duration
	for at := time.Duration(0); at < 8*24*time.Hour; at += 30 * time.Second {
		if cs.lends(client, now.Add(at)) {
			trials = append(trials, at)
		}
	}
	if n := len(trials); n < 12 || n > 18 || trials[1] != time.Minute || trials[2] != 3*time.Minute || trials[n-1]-trials[n-2] != lastTrial {
		t.Errorf("trials at %v", trials)
	}
	if cs.takes(client, now) || !cs.lends(other, now) {
		t.Error("it takes what it has not, or another one is not tried")
	}
	cs.joined(client, now)
	for _, at := range []time.Duration{0, time.Minute, takesFor - 1} {
		if !cs.takes(client, now.Add(at)) || !cs.lends(client, now.Add(at)) {
			t.Errorf("not lent to after %v", at)
		}
	}
	if cs.takes(client, now.Add(takesFor)) {
		t.Error("it is believed to take for ever")
	}
	cs.set(config.LendTo{Prefixes: prefixList("203.0.113.8/31")})
	if cs.lends(client, now.Add(2*takesFor)) || !cs.lends(other, now) || !cs.takes(other, now) {
		t.Error("prefixes are not heeded")
	}
	cs.set(config.LendTo{All: true})
	if !cs.lends(client, now.Add(2*takesFor)) || cs.takes(client, now.Add(2*takesFor)) {
		t.Error("all are not all, or all are believed to take")
	}
	cs.set(config.LendTo{Learned: true})
	for i := range uint32(maxClients + 100) {
		cs.lends(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(cs.seen); n > maxClients {
		t.Errorf("%d are remembered", n)
	}
}
