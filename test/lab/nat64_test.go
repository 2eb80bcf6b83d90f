// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"net/netip"
	"testing"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

// TestNAT64 reaches a server that has IPv4 over a carrier that has IPv6.
func TestNAT64(t *testing.T) {
	a := lab.LTE(link.Spec{}, link.Spec{})
	a.V4, a.NAT64 = lab.None, netip.MustParsePrefix("2001:db8:64::/96")
	w := newWorld(t, lab.Options{Accesses: []lab.Access{a}})
	serve(t, w.Server, false)
	tcp := dial(w.Gateway, netip.MustParseAddr("2001:db8:64::192.0.2.80"), false)
	p, err := tcp.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddr("203.0.113.129"); p.Remote.Addr() != want || p.Local.Addr() != lab.Server4 {
		t.Errorf("the server sees %v at %v, want %v at %v", p.Remote, p.Local, want, lab.Server4)
	}
	if r, err := tcp.Do(t.Context(), traffic.Download, traffic.Request{Bytes: 5e6}); err != nil || r.Bytes != 5e6 {
		t.Errorf("%v, %v", r, err)
	}
	if p, err := dial(w.Gateway, lab.Server4, false).Identify(t.Context()); err == nil {
		t.Errorf("IPv4 reaches the server too: %+v", p)
	}
}
