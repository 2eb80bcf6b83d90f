// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/agent/clat"
	"braid/agent/kernel/route"
	"braid/agent/plan"
	"braid/onpath/checksum"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

const (
	device  = "braid-clat1"
	tcpPort = 5001
)

var (
	prefix = netip.MustParsePrefix("2001:db8:64::/96")
	ours4  = netip.MustParseAddr("192.0.0.1")
)

// v6only is a carrier without IPv4 but for a NAT64.
func v6only(prefix string) lab.Access {
	a := lab.LTE(link.Spec{}, link.Spec{})
	a.V4, a.NAT64 = lab.None, netip.MustParsePrefix(prefix)
	return a
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newWorld(t *testing.T, accesses ...lab.Access) *lab.World {
	t.Helper()
	w, err := lab.New(t.Context(), lab.Options{Accesses: accesses})
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

// start discovers the carrier's NAT64, runs a CLAT for it in the gateway, and
// does there what Open leaves to others.
func start(t *testing.T, w *lab.World) *clat.CLAT {
	t.Helper()
	lte := w.WAN("lte")
	var c *clat.CLAT
	var tunnel, wan *net.Interface
	err := w.Gateway.Do(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		n, err := clat.Discover(ctx, clat.Access{Device: "lte"}) // from routers alone
		if err != nil {
			return err
		}
		want := clat.NAT64{Prefix: lte.NAT64, Lifetime: 10 * time.Minute, Origin: clat.OriginRouter}
		if n != want {
			return fmt.Errorf("found %+v, want %+v", n, want)
		}
		n, err = clat.Discover(ctx, clat.Access{Device: "lte", Servers: []netip.Addr{lte.Router6}})
		if err != nil || n.Prefix != want.Prefix {
			return fmt.Errorf("found %+v, %w", n, err)
		}
		c, err = clat.Open(clat.Config{Device: device, WAN: "lte", Prefix: n.Prefix, IPv4: ours4})
		if err != nil {
			return err
		}
		if tunnel, err = net.InterfaceByName(device); err != nil {
			return err
		}
		if wan, err = net.InterfaceByName("lte"); err != nil {
			return err
		}
		const table = plan.TableLocal + 1
		all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
		inner := netip.PrefixFrom(clat.Inner(ours4), 128)
		return route.Apply([]plan.Route{
			{Table: table, Dest: all4, Link: tunnel.Index},
			{Table: table, Dest: inner, Link: tunnel.Index},
			{Table: table, Dest: all6, Link: wan.Index, Gateway: lte.Router6},
		}, []plan.Rule{
			{Pref: plan.PrefInner, IPv6: true, Dest: inner, Table: table},
			{Pref: plan.PrefSource, Source: netip.PrefixFrom(ours4, 32), Table: table},
			{Pref: plan.PrefSource, IPv6: true, Source: inner, Table: table},
			{Pref: plan.PrefDevice, Device: device, Table: table},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Gateway.Run(fmt.Sprintf(`nft "table ip6 clat { chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname lte ip6 saddr %v masquerade; }; }"`, clat.Inner(ours4)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	doneC := make(chan error)
	go func() { doneC <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-doneC; err != nil {
			t.Errorf("running: %v", err)
		}
		if _, err := w.Gateway.Run("ip link show " + device); err == nil {
			t.Errorf("%s is still there", device)
		}
	})
	return c
}

func serve(t *testing.T, w *lab.World, mptcp bool) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := w.Server.Listen(t.Context(), lc, "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), tcpPort).String())
	if err != nil {
		t.Fatal(err)
	}
	s := traffic.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// dial dials the server from an address of the gateway.
func dial(w *lab.World, source netip.Addr, port uint16, mptcp bool) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
		d.SetMultipathTCP(mptcp)
		return w.Gateway.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, port).String())
	}
}

func dialUDP(t *testing.T, w *lab.World, port uint16) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(ours4, 0))}
	c, err := w.Gateway.Dial(t.Context(), d, "udp", netip.AddrPortFrom(lab.Server4, port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Transfers over each kind of prefix, by a NAT64 of other authors.
func TestTransfer(t *testing.T) {
	for _, prefix := range []string{
		"2001:db8:64::/96", "3fff:64::/32", "3fff:64:6400::/40", "3fff:64:64::/48", "3fff:64:64:6400::/56", "3fff:64:64:64::/64",
	} {
		t.Run(prefix, func(t *testing.T) {
			w := newWorld(t, v6only(prefix))
			c := start(t, w)
			serve(t, w, false)
			tcp := dial(w, ours4, tcpPort, false)
			p, err := tcp.Identify(t.Context())
			if err != nil || p.Remote.Addr() != w.WAN("lte").Public4 {
				t.Fatalf("the server sees %v, %v; want %v", p.Remote, err, w.WAN("lte").Public4)
			}
			const size = 20_000_000
			for _, op := range []traffic.Op{traffic.Download, traffic.Upload} {
				if r, err := tcp.Do(t.Context(), op, traffic.Request{Bytes: size}); err != nil || r.Bytes != size {
					t.Errorf("%v: %v, %v", op, r, err)
				}
			}
			if out, in := c.Stats.Out.Load(), c.Stats.In.Load(); out < size/1440 || in < size/1440 {
				t.Errorf("%d packets out, %d in", out, in)
			}
		})
	}
}

// pinger sends echo requests from our address and says what comes back.
type pinger struct {
	*net.IPConn
	seq byte
}

func newPinger(t *testing.T, w *lab.World) *pinger {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		return errors.Join(err, failed)
	}}
	c, err := w.Gateway.ListenPacket(t.Context(), lc, "ip4:icmp", ours4.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &pinger{IPConn: c.(*net.IPConn)}
}

// ping says who has answered by what type and code. size is that of the packet.
func (p *pinger) ping(t *testing.T, to netip.Addr, size, ttl int) string {
	t.Helper()
	rc, err := p.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
	if err != nil {
		t.Fatal(err)
	}
	p.seq++
	b := make([]byte, size-20)
	b[0], b[7] = 8, p.seq
	binary.BigEndian.PutUint16(b[2:], checksum.Of(checksum.Sum(b)))
	if _, err := p.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return errors.Unwrap(errors.Unwrap(err)).Error()
	}
	p.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		buf := make([]byte, 2000)
		n, from, err := p.ReadFrom(buf)
		if err != nil {
			return err.Error()
		}
		echo := buf[:n]
		if echo[0] != 0 && n >= 36 {
			echo = echo[28:] // what the error is about
		}
		if n >= 8 && echo[7] == p.seq {
			return fmt.Sprintf("%v %d/%d", from, buf[0], buf[1])
		}
	}
}

func TestPing(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	start(t, w)
	p := newPinger(t, w)
	nobody := lab.Server4.Prev()
	tests := []struct {
		name      string
		to        netip.Addr
		size, ttl int
		want      string
	}{
		{"server", lab.Server4, 84, 64, "192.0.2.80 0/0"},
		// Answers have no DF, and those longer than 1280 there come in fragments,
		// which ICMP cannot be translated in.
		{"1280 on the WAN", lab.Server4, 1260, 64, "192.0.2.80 0/0"},
		{"the kernel before the WAN is the first hop", lab.Server4, 84, 1, "192.0.0.8 11/0"},
		{"the carrier's router", lab.Server4, 84, 2, "192.0.0.8 11/0"},
		{"the carrier's NAT64", lab.Server4, 84, 3, "192.168.255.1 11/0"},
		{"nobody", nobody, 84, 64, "10.255.0.1 3/1"},
		{"1501 on the WAN", lab.Server4, 1481, 64, "192.0.0.8 3/4"},
		{"and once more", lab.Server4, 1481, 64, "message too long"},
	}
	for _, tt := range tests {
		if got := p.ping(t, tt.to, tt.size, tt.ttl); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestUDP(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	start(t, w)
	pc, err := w.Server.ListenPacket(t.Context(), net.ListenConfig{}, "udp", ":5002")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go traffic.ServeUDP(pc)
	tests := []struct {
		name       string
		size, lost int
	}{
		{"small", 100, 0},
		{"1500 on the WAN", 1452, 0},
		{"1501, until both ends know", 1453, 2},
		{"cut by the kernel", 4000, 0},
		{"twenty full fragments", 1480*20 - 8, 0},
	}
	for _, tt := range tests {
		s := traffic.Stream{Count: 20, Interval: 5 * time.Millisecond, Size: tt.size}
		r, err := s.Run(t.Context(), dialUDP(t, w, 5002))
		if err != nil || r.Received != 20-tt.lost || r.Damaged != 0 {
			t.Errorf("%s: %v, %v", tt.name, r, err)
		}
	}
	c := dialUDP(t, w, 5999)
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	start(t, w)
	if _, err := dial(w, ours4, 5999, false)(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
}

// A path behind the NAT64 that is narrower than the WAN, and one before it.
func TestPathMTU(t *testing.T) {
	tests := []struct {
		name   string
		script string
		node   func(*lab.World) *lab.Node
		want   string
	}{
		{"IPv4", "ip link set core mtu 1400", func(w *lab.World) *lab.Node { return w.WAN("lte").Router }, "mtu 1400"},
		{"IPv6", "ip link set nat64 mtu 1400", func(w *lab.World) *lab.Node { return w.WAN("lte").Router }, "mtu 1380"},
		{"WAN", "ip link set lte mtu 1400", func(w *lab.World) *lab.Node { return w.Gateway }, "mtu 1380"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, v6only("2001:db8:64::/96"))
			start(t, w)
			serve(t, w, false)
			if _, err := tt.node(w).Run(tt.script); err != nil {
				t.Fatal(err)
			}
			const size = 5_000_000
			r, err := dial(w, ours4, tcpPort, false).Do(t.Context(), traffic.Upload, traffic.Request{Bytes: size})
			if err != nil || r.Bytes != size {
				t.Errorf("%v, %v", r, err)
			}
			got, err := w.Gateway.Run("ip route get from 192.0.0.1 " + lab.Server4.String())
			if err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("want %s in route %s, %v", tt.want, got, err)
			}
		})
	}
}

// TestJoin bonds a fixed line with IPv4 and the IPv6-only carrier, to a server
// that has IPv4 in use.
func TestJoin(t *testing.T) {
	fibre := lab.Fibre(link.Spec{Rate: 20e6, Delay: 5 * time.Millisecond}, link.Spec{Rate: 20e6, Delay: 5 * time.Millisecond})
	lte := v6only("2001:db8:64::/96")
	lte.Down, lte.Up = fibre.Down, fibre.Up
	w := newWorld(t, fibre, lte)
	start(t, w)
	serve(t, w, true)
	if _, err := w.Gateway.Run("ip mptcp endpoint add 192.0.0.1 dev " + device + " subflow"); err != nil {
		t.Fatal(err)
	}
	const size = 20_000_000
	r, err := dial(w, w.WAN("fibre").Gateway4.Addr(), tcpPort, true).Do(t.Context(), traffic.Download, traffic.Request{Bytes: size})
	if err != nil || r.Bytes != size {
		t.Fatalf("%v, %v", r, err)
	}
	got := map[string]uint64{}
	for _, c := range []struct {
		n    *lab.Node
		name string
	}{
		{w.Gateway, "MPTcpExtMPCapableSYNTX"}, {w.Gateway, "MPTcpExtMPJoinSynAckRx"}, {w.Server, "MPTcpExtMPJoinAckRx"},
	} {
		got[c.name] = c.n.MIB(c.name)
	}
	want := map[string]uint64{"MPTcpExtMPCapableSYNTX": 1, "MPTcpExtMPJoinSynAckRx": 1, "MPTcpExtMPJoinAckRx": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	for _, name := range []string{"fibre", "lte"} {
		if n := w.Link(name).BA().Counters().Bytes; n < size/4 {
			t.Errorf("%s has carried %d bytes of %v", name, n, size)
		}
	}
}

// A router of the WAN's has announced less than the device could.
func TestMTU(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	if _, err := w.Gateway.Run("echo 1300 >/proc/sys/net/ipv6/conf/lte/mtu"); err != nil {
		t.Fatal(err)
	}
	err := w.Gateway.Do(func() error {
		c, err := clat.Open(clat.Config{Device: device, WAN: "lte", Prefix: prefix, IPv4: ours4})
		if err != nil {
			return err
		}
		i, err := net.InterfaceByName(device)
		if err == nil && i.MTU != 1300 {
			t.Errorf("MTU %d, want 1300", i.MTU)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return errors.Join(err, c.Run(ctx))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWANIsGone(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	err := w.Gateway.Do(func() error {
		_, err := clat.Open(clat.Config{Device: device, WAN: "wwan9", Prefix: prefix, IPv4: ours4})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "wwan9") {
		t.Errorf("opening without a WAN: %v", err)
	}
}

func TestDeviceIsLost(t *testing.T) {
	w := newWorld(t, v6only("2001:db8:64::/96"))
	var c *clat.CLAT
	err := w.Gateway.Do(func() (err error) {
		c, err = clat.Open(clat.Config{Device: device, WAN: "lte", Prefix: prefix, IPv4: ours4})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	errC := make(chan error)
	go func() { errC <- c.Run(t.Context()) }()
	if _, err := w.Gateway.Run("ip link del " + device); err != nil {
		t.Fatal(err)
	}
	if err := <-errC; err == nil || !strings.Contains(err.Error(), device) {
		t.Errorf("running without the device: %v", err)
	}
}
