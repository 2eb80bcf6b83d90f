// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

const port = 5001

func newWorld(t *testing.T, o lab.Options) *lab.World {
	t.Helper()
	w, err := lab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return w
}

// serve starts a traffic server on a node, for both families.
func serve(t *testing.T, n *lab.Node, mptcp bool) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := n.Listen(t.Context(), lc, "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
	if err != nil {
		t.Fatal(err)
	}
	s := traffic.Serve(l)
	t.Cleanup(func() { s.Close() })
}

func dial(n *lab.Node, to netip.Addr, mptcp bool) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		d.SetMultipathTCP(mptcp)
		return n.Dial(ctx, d, "tcp", netip.AddrPortFrom(to, port).String())
	}
}

func TestDownload(t *testing.T) {
	both := []netip.Addr{lab.Server4, lab.Server6}
	down := link.Spec{Rate: 50_000_000, Delay: 5 * time.Millisecond}
	up := link.Spec{Rate: 10_000_000, Delay: 5 * time.Millisecond}
	tests := []struct {
		name       string
		o          lab.Options
		bytes      int64
		ceiling    float64 // payload, Mbit/s
		firstAfter time.Duration
	}{
		{"emulated", lab.Options{Accesses: []lab.Access{lab.Fibre(down, up)}}, 5e6, 50 * 1448 / 1500., 20 * time.Millisecond},
		{"server far away", lab.Options{ServerDelay: 20 * time.Millisecond}, 5e6, 1e6, 80 * time.Millisecond},
		{"veth", lab.Options{Veth: true}, 500e6, 1e6, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.o)
			serve(t, w.Server, false)
			for _, server := range both {
				r, err := dial(w.Host(), server, false).Do(t.Context(), traffic.Download, traffic.Request{Bytes: tt.bytes})
				if err != nil {
					t.Fatal(err)
				}
				mbit := r.Rate() / 1e6
				if r.Bytes != tt.bytes || mbit > tt.ceiling || r.FirstByte < tt.firstAfter {
					t.Errorf("from %v: %v, want at most %.1f Mbit/s, first byte after %v", server, r, tt.ceiling, tt.firstAfter)
				}
				if tt.ceiling < 1e5 && mbit < 0.75*tt.ceiling {
					t.Errorf("from %v: %v, want about %.1f Mbit/s", server, r, tt.ceiling)
				}
			}
		})
	}
}

// TestFailover sees the LAN host come from the address of whichever access network is up.
func TestFailover(t *testing.T) {
	w := newWorld(t, lab.Options{})
	serve(t, w.Server, false)
	seen := func(n *lab.Node, server netip.Addr) string {
		p, err := dial(n, server, false).Identify(t.Context())
		if err != nil {
			return "none"
		}
		return p.Remote.Addr().String()
	}
	check := func(when string, want ...string) {
		t.Helper()
		got := []string{
			seen(w.Host(), lab.Server4), seen(w.Host(), lab.Server6),
			seen(w.Gateway, lab.Server4), seen(w.Gateway, lab.Server6),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, the server sees (-want +got):\n%s", when, diff)
		}
	}
	fibre := []string{"198.51.100.2", "2001:db8:1::20", "198.51.100.2", "2001:db8:f::2"}
	check("at first", fibre...)
	if err := w.WAN("fibre").SetDown(); err != nil {
		t.Fatal(err)
	}
	// The carrier does not route the prefix that the LAN has from the fixed ISP.
	check("without fibre", "203.0.113.1", "none", "203.0.113.1", "2001:db8:c::2")
	if err := w.WAN("fibre").SetUp(); err != nil {
		t.Fatal(err)
	}
	check("with fibre again", fibre...)
}

func TestUnasked(t *testing.T) {
	w := newWorld(t, lab.Options{})
	serve(t, w.Gateway, false)
	// Behind the carrier's NAT nobody can be called; the public address refuses at once.
	for _, to := range []string{"203.0.113.1", "100.64.0.2"} {
		if p, err := dial(w.Server, netip.MustParseAddr(to), false).Identify(t.Context()); err == nil {
			t.Errorf("%s can be called: %+v", to, p)
		}
	}
	for _, to := range []string{"198.51.100.2", "2001:db8:f::2", "2001:db8:1::1"} {
		if _, err := dial(w.Server, netip.MustParseAddr(to), false).Identify(t.Context()); err != nil {
			t.Errorf("calling %s: %v", to, err)
		}
	}
}

// TestMPTCP bonds two links between gateway and server, over either family.
func TestMPTCP(t *testing.T) {
	spec := func(mbit int64, delay time.Duration) link.Spec {
		return link.Spec{Rate: mbit * 1_000_000, Delay: delay}
	}
	tests := []struct {
		name   string
		server netip.Addr
		lte    string
	}{{"IPv4", lab.Server4, "100.64.0.2"}, {"IPv6", lab.Server6, "2001:db8:c::2"}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{Accesses: []lab.Access{
				lab.Fibre(spec(40, 5*time.Millisecond), spec(40, 5*time.Millisecond)),
				lab.LTE(spec(20, 10*time.Millisecond), spec(20, 10*time.Millisecond)),
			}})
			serve(t, w.Server, true)
			if _, err := w.Gateway.Run("ip mptcp endpoint add " + tt.lte + " dev lte subflow"); err != nil {
				t.Fatal(err)
			}
			r, err := dial(w.Gateway, tt.server, true).Do(t.Context(), traffic.Download, traffic.Request{Bytes: 30e6})
			if err != nil {
				t.Fatal(err)
			}
			if single := 40e6 * 1448 / 1500; r.Rate() < 1.15*single {
				t.Errorf("%v, want more than the %.1f Mbit/s of the faster link", r, single/1e6)
			}
			for _, c := range []struct {
				n    *lab.Node
				name string
				want uint64
			}{
				{w.Gateway, "MPTcpExtMPCapableSYNTX", 1},
				{w.Gateway, "MPTcpExtMPJoinSynAckRx", 1},
				{w.Server, "MPTcpExtMPJoinAckRx", 1},
				{w.Host(), "MPTcpExtMPCapableSYNTX", 0},
			} {
				if got := c.n.MIB(c.name); got != c.want {
					t.Errorf("%s in %s is %d, want %d", c.name, c.n.Name, got, c.want)
				}
			}
			for _, name := range []string{"fibre", "lte"} {
				if got := w.Link(name).BA().Counters().Bytes; got < 5e6 {
					t.Errorf("%s has carried %d bytes", name, got)
				}
			}
		})
	}
}

func TestAccesses(t *testing.T) {
	v6only := lab.LTE(link.Spec{}, link.Spec{})
	v6only.V4 = lab.None
	second, third := lab.Fibre(link.Spec{}, link.Spec{}), lab.LTE(link.Spec{}, link.Spec{})
	second.Name, third.Name = "dsl", "5g"
	w := newWorld(t, lab.Options{
		Accesses: []lab.Access{lab.Fibre(link.Spec{}, link.Spec{}), v6only, second, third},
		Hosts:    3,
	})
	serve(t, w.Server, false)
	var got [][3]string
	for _, wan := range w.WANs {
		got = append(got, [3]string{wan.Name, wan.Public4.String(), wan.Gateway6.String()})
	}
	want := [][3]string{
		{"fibre", "198.51.100.2", "2001:db8:f::2/64"},
		{"lte", "invalid IP", "2001:db8:c::2/64"},
		{"dsl", "198.18.1.2", "2001:db8:f:1::2/64"},
		{"5g", "203.0.113.1", "2001:db8:c:1::2/64"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}

	for i, wan := range w.WANs {
		for _, server := range []netip.Addr{lab.Server4, lab.Server6} {
			p, err := dial(w.Gateway, server, false).Identify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := wan.Gateway6.Addr()
			if server.Is4() {
				if want = wan.Public4; wan.V4 == lab.None {
					want = w.WANs[i+1].Public4
				}
			}
			if p.Remote.Addr() != want {
				t.Errorf("with %s first, the server sees %v, want %v", wan.Name, p.Remote.Addr(), want)
			}
		}
		if err := wan.SetDown(); err != nil {
			t.Fatal(err)
		}
	}
	for _, wan := range w.WANs {
		if err := wan.SetUp(); err != nil {
			t.Fatal(err)
		}
	}
	for i, host := range w.Hosts {
		p, err := dial(host, lab.Server6, false).Identify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"2001:db8:1::20", "2001:db8:1::21", "2001:db8:1::22"}[i]; p.Remote.Addr().String() != want {
			t.Errorf("host %d is seen as %v, want %s", i+1, p.Remote.Addr(), want)
		}
	}
}
