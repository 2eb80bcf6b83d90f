// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// joined is a connection, dialled to an address of the other family's or its
// own listener, with a second subflow from an endpoint that names its device.
func joined(t *testing.T, listen, source, second, peer string) (c, accepted *Conn) {
	t.Helper()
	for _, a := range []string{source, second, peer} {
		bits := "/128"
		if netip.MustParseAddr(a).Is4() {
			bits = "/32"
		}
		run(t, "", "ip", "addr", "add", a+bits, "dev", "lo", "nodad")
		t.Cleanup(func() { run(t, "", "ip", "addr", "del", a+bits, "dev", "lo") })
	}
	old := must(GetLimits())
	if err := SetLimits(Limits{Subflows: 4, AddAddrsAccepted: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { SetLimits(old) })
	e := Endpoint{ID: 224, Addr: netip.MustParseAddr(second), Device: 1, Flags: FlagSubflow}
	if err := AddEndpoint(e); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { DeleteEndpoint(e) })
	at, acceptedC := echo(t, listen)
	var d Dialer
	c, err := d.Dial(t.Context(), netip.MustParseAddr(source), netip.AddrPortFrom(netip.MustParseAddr(peer), at.Port()), []byte("hello"))
	// The kernel makes an IPv6 address usable a moment after it was added.
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, unix.ENETUNREACH) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		c, err = d.Dial(t.Context(), netip.MustParseAddr(source), netip.AddrPortFrom(netip.MustParseAddr(peer), at.Port()), []byte("hello"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	roundTrip(t, c, "hello")
	accepted = <-acceptedC
	waitSubflows(t, c, 2)
	waitSubflows(t, accepted, 2)
	return c, accepted
}

// waitSubflows waits until a connection has so many established subflows. A
// first one that is closed stays, without its remote port.
func waitSubflows(t *testing.T, c *Conn, want int) []Subflow {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		flows, err := c.Subflows()
		if err != nil {
			t.Fatal(err)
		}
		flows = slices.DeleteFunc(flows, func(f Subflow) bool { return f.State != StateEstablished })
		if len(flows) == want {
			return flows
		}
		if time.Now().After(deadline) {
			t.Fatalf("subflows %+v, want %d", flows, want)
		}
	}
}

func TestDestroy(t *testing.T) {
	tests := []struct {
		name, listen, source, second, peer string
	}{
		{"IPv4 listener", "0.0.0.0:0", "192.0.2.31", "192.0.2.32", "192.0.2.33"},
		{"v4-mapped", "[::]:0", "192.0.2.31", "192.0.2.32", "192.0.2.33"},
		{"IPv6", "[::]:0", "2001:db8::31", "2001:db8::32", "2001:db8::33"},
	}
	for _, tt := range tests {
		for _, end := range []string{"the end that dialled", "the end that accepted"} {
			for _, which := range []int{0, 1} {
				t.Run(tt.name+"/"+end, func(t *testing.T) {
					c, accepted := joined(t, tt.listen, tt.source, tt.second, tt.peer)
					at := c
					if end == "the end that accepted" {
						at = accepted
					}
					doomed := waitSubflows(t, at, 2)[which]
					if err := Destroy(doomed); err != nil {
						t.Fatal(err)
					}
					left := waitSubflows(t, at, 1)
					if left[0].Local == doomed.Local && left[0].Remote == doomed.Remote {
						t.Errorf("%v to %v is left", doomed.Local, doomed.Remote)
					}
					waitSubflows(t, accepted, 1)
					waitSubflows(t, c, 1)
					if err := Destroy(doomed); err != nil {
						t.Errorf("again: %v", err)
					}
					if _, err := io.WriteString(c, "still there"); err != nil {
						t.Fatal(err)
					}
					roundTrip(t, c, "still there")
					var d Dialer
					next, err := d.Dial(t.Context(), netip.Addr{}, c.Remote, nil)
					if err != nil {
						t.Fatalf("the listener has suffered: %v", err)
					}
					next.Close()
				})
			}
		}
	}
}

func TestSendBuffer(t *testing.T) {
	c, accepted := joined(t, "[::]:0", "192.0.2.31", "192.0.2.32", "192.0.2.33")
	for _, x := range []*Conn{c, accepted} {
		for _, want := range []int{128 << 10, 4 << 20, 300_000} { // the second is beyond net.core.wmem_max
			if err := x.SetSendBuffer(want); err != nil {
				t.Fatal(err)
			}
			if got, err := x.SendBuffer(); got != want || err != nil {
				t.Errorf("send buffer %d, %v, want %d", got, err, want)
			}
		}
	}
	c.Close()
	if err := c.SetSendBuffer(1 << 20); err == nil {
		t.Error("the buffer of a closed connection was set")
	}
	if _, err := c.SendBuffer(); err == nil {
		t.Error("the buffer of a closed connection was read")
	}
}

func BenchmarkAppendSubflows(b *testing.B) {
	l, err := Listen(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var d Dialer
	c, err := d.Dial(b.Context(), netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	var flows []Subflow
	for b.Loop() {
		if flows, err = c.AppendSubflows(flows[:0]); err != nil || len(flows) != 1 {
			b.Fatal(flows, err)
		}
	}
}

// It destroys a socket of its own, which only a kernel can that has what it
// takes.
func TestCanDestroy(t *testing.T) {
	if err := CanDestroy(); err != nil {
		t.Error(err)
	}
}
