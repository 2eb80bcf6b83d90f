// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEndpoints(t *testing.T) {
	run(t, "", "ip", "addr", "add", "2001:db8::1/128", "dev", "lo", "nodad")
	want := []Endpoint{
		{ID: 224, Addr: netip.MustParseAddr("127.0.0.5"), Device: 1, Flags: FlagSubflow},
		{ID: 255, Addr: netip.MustParseAddr("2001:db8::1"), Device: 1, Flags: FlagSubflow | FlagFullmesh | FlagBackup},
	}
	for _, e := range want {
		if err := AddEndpoint(e); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		got, err := Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Error(d)
		}
	}
	check()
	want[0].Flags |= FlagBackup
	if err := SetEndpointFlags(want[0]); err != nil {
		t.Fatal(err)
	}
	check()
	if err := AddEndpoint(want[0]); err == nil {
		t.Error("the same endpoint was added twice")
	}
	for len(want) > 0 {
		if err := DeleteEndpoint(want[0]); err != nil {
			t.Fatal(err)
		}
		want = want[1:]
		if len(want) > 0 {
			check()
		}
	}
	if got, err := Endpoints(); len(got) != 0 || err != nil {
		t.Errorf("left: %v, %v", got, err)
	}
}

func TestLimits(t *testing.T) {
	old, err := GetLimits()
	if err != nil {
		t.Fatal(err)
	}
	want := Limits{Subflows: 7, AddAddrsAccepted: 3}
	if err := SetLimits(want); err != nil {
		t.Fatal(err)
	}
	if got, err := GetLimits(); got != want || err != nil {
		t.Errorf("limits %+v, %v, want %+v", got, err, want)
	}
	if err := SetLimits(old); err != nil {
		t.Error(err)
	}
	if err := SetLimits(Limits{Subflows: 300}); err == nil {
		t.Error("300 subflows were accepted")
	}
}

// Both families on one connection: the peer was dialled by its IPv4 address
// and announces its IPv6 one.
func TestSubflowsOfTwoFamilies(t *testing.T) {
	for _, a := range []string{"192.0.2.21/32", "192.0.2.22/32", "2001:db8::21/128", "2001:db8::22/128"} {
		run(t, "", "ip", "addr", "add", a, "dev", "lo")
	}
	old, _ := GetLimits()
	if err := SetLimits(Limits{Subflows: 4, AddAddrsAccepted: 4}); err != nil {
		t.Fatal(err)
	}
	defer SetLimits(old)
	for _, e := range []Endpoint{
		{ID: 224, Addr: netip.MustParseAddr("2001:db8::21"), Device: 1, Flags: FlagSubflow | FlagFullmesh},
		{ID: 1, Addr: netip.MustParseAddr("2001:db8::22"), Flags: FlagSignal},
	} {
		if err := AddEndpoint(e); err != nil {
			t.Fatal(err)
		}
		defer DeleteEndpoint(e)
	}
	peer, acceptedC := echo(t, "[::]:0")
	peer = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.22"), peer.Port())
	var c, accepted *Conn
	var flows []Subflow
	// An address that is announced before the connection counts as established
	// is not taken up (6.18), which is a matter of microseconds.
	for try := 0; try < 5 && len(flows) < 2; try++ {
		var d Dialer
		var err error
		c, err = d.Dial(t.Context(), netip.MustParseAddr("192.0.2.21"), peer, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		roundTrip(t, c, "hello")
		accepted = <-acceptedC
		for deadline := time.Now().Add(2 * time.Second); len(flows) < 2 && time.Now().Before(deadline); {
			c.Write([]byte{1})
			io.ReadFull(c, make([]byte, 1))
			if flows, err = c.Subflows(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(flows) != 2 || flows[0].Local.Addr() != netip.MustParseAddr("192.0.2.21") || flows[1].Local.Addr() != netip.MustParseAddr("2001:db8::21") ||
		flows[1].Remote != netip.AddrPortFrom(netip.MustParseAddr("2001:db8::22"), peer.Port()) {
		t.Fatalf("subflows %+v", flows)
	}
	for _, x := range []*Conn{c, accepted} {
		in, err := x.Info()
		if err != nil || in.Subflows != 1 || in.Fallback || in.BytesSent == 0 || in.BytesReceived == 0 {
			t.Errorf("info %+v, %v", in, err)
		}
		for _, f := range must(x.Subflows()) {
			if f.State != StateEstablished || f.RTT == 0 || f.Cwnd == 0 || f.SndMSS == 0 {
				t.Errorf("subflow %+v", f)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
