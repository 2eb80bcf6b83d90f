// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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

// Plain connections from an address end, those from others and those that others
// have opened to it do not.
func TestDestroyFrom(t *testing.T) {
	for _, tt := range []struct{ name, network, away, here, peer string }{
		{"IPv4", "tcp4", "192.0.2.41", "192.0.2.42", "192.0.2.43"},
		{"v4-mapped", "tcp", "192.0.2.41", "192.0.2.42", "192.0.2.43"},
		{"IPv6", "tcp6", "2001:db8::41", "2001:db8::42", "2001:db8::43"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			joinedAway, _ := joined(t, "[::]:0", tt.away, tt.here, tt.peer) // from the address, too
			at, _ := echo(t, net.JoinHostPort("::", "0"))
			dial := func(source string) net.Conn {
				t.Helper()
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))}
				d.SetMultipathTCP(false)
				c, err := d.Dial(tt.network, netip.AddrPortFrom(netip.MustParseAddr(tt.peer), at.Port()).String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			doomed, other := dial(tt.away), dial(tt.here)
			server, err := net.Listen(tt.network, net.JoinHostPort(tt.away, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			inbound, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt.here)}}).Dial(tt.network, server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer inbound.Close()
			served, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer served.Close()
			n, err := DestroyFrom(netip.MustParseAddr(tt.away))
			if n != 1 || err != nil {
				t.Errorf("%d destroyed, %v", n, err)
			}
			doomed.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := doomed.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("a connection from there: %v", err)
			}
			for name, c := range map[string]net.Conn{"another one": other, "what others have opened": served} {
				if _, err := io.WriteString(c, "x"); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			waitSubflows(t, joinedAway, 2)
		})
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

// The peer does not read: what it has no room for is held here, and is on no path.
func TestInFlight(t *testing.T) {
	c, _ := joined(t, "[::]:0", "192.0.2.36", "192.0.2.37", "192.0.2.38")
	c.SetDeadline(time.Now().Add(time.Second))
	for {
		if _, err := c.Write(make([]byte, 64<<10)); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	in := must(c.Info())
	for settled := time.Now().Add(2 * time.Second); in.InFlight() != 0 && time.Now().Before(settled); time.Sleep(time.Millisecond) {
		in = must(c.Info()) // what asks for room is under way now and then
	}
	if held := in.WriteSeq - in.Una; held < 64<<10 || in.InFlight() != 0 {
		t.Errorf("%d bytes in flight, %d held: %+v", in.InFlight(), held, in)
	}
}

func BenchmarkAppendSubflows(b *testing.B) {
	l, err := Listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
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
