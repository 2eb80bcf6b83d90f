// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"net/netip"
	"testing"

	"braid/onpath/lend"
	"braid/transport/mptcp"
)

// Whether a connection is converted is asked by its first flow, which a client may use
// again before the end of the last one was noticed.
func TestSessionAsked(t *testing.T) {
	s := newSessions(nil)
	f := lend.Flow{Client: netip.MustParseAddrPort("198.51.100.2:40000"), Server: netip.MustParseAddrPort("192.0.2.80:443")}
	c := &lend.Connection{First: f}
	first, again := &session{client: &mptcp.Conn{Remote: f.Client, Local: f.Server}}, &session{client: &mptcp.Conn{Remote: f.Client, Local: f.Server}}
	for _, step := range []struct {
		name string
		do   func()
		want lend.Knowledge
	}{
		{"none", func() {}, lend.Unknown},
		{"one", func() { s.add(first) }, lend.Open},
		{"the next", func() { s.add(again) }, lend.Open},
		{"the first has ended", func() { s.remove(first) }, lend.Open},
		{"so has the next", func() { s.remove(again) }, lend.Unknown},
	} {
		if step.do(); s.ask(c, f) != step.want {
			t.Errorf("%s: %v", step.name, s.ask(c, f))
		}
	}
	if len(s.open)+len(s.flows) != 0 {
		t.Errorf("left: %v, %v", s.open, s.flows)
	}
}
