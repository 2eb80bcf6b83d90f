// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"braid/test/netns"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

func run(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

const (
	mark = 0x1f000000
	ways = 3
)

func listener(t *testing.T) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), mark, ways)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func withoutIPv6(t *testing.T) {
	t.Helper()
	set := func(v string) {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	t.Cleanup(func() { set("0") })
}

// intercept has connections to far addresses end at a listener, by ports from 440 on.
func intercept(t *testing.T, l *Listener) {
	t.Helper()
	var tproxy strings.Builder
	for i, port := range l.Ports() {
		fmt.Fprintf(&tproxy, `
				meta nfproto ipv4 tcp dport %[1]d tproxy ip to 127.0.0.1:%[2]d
				meta nfproto ipv6 tcp dport %[1]d tproxy ip6 to [::1]:%[2]d`, 440+i, port)
	}
	run(t, fmt.Sprintf(`
		for f in -4 -6; do ip $f rule add fwmark 1 lookup 100; ip $f route add local default dev lo table 100; done
		ip route add 203.0.113.0/24 dev lo; ip -6 route add 2001:db8:7::/64 dev lo
		nft -f - <<.
		table inet t {
			chain output {
				type route hook output priority mangle
				ip daddr 203.0.113.0/24 meta mark set 1
				ip6 daddr 2001:db8:7::/64 meta mark set 1
			}
			chain prerouting {
				type filter hook prerouting priority mangle%s
			}
		}
.`, tproxy.String()))
	t.Cleanup(func() {
		run(t, "nft delete table inet t; for f in -4 -6; do ip $f rule del fwmark 1; ip $f route flush table 100; done; ip route flush 203.0.113.0/24; ip -6 route flush 2001:db8:7::/64")
	})
}

// What is intercepted by MPTCP says at once what it has to say.
func TestInterceptMultipath(t *testing.T) {
	l, err := ListenMultipath(mark)
	if err != nil {
		t.Fatal(err)
	}
	intercept(t, l)
	soonC, doneC := make(chan int, 1), make(chan error)
	go func() {
		doneC <- l.Serve(func(c *mptcp.Conn, _ int) {
			fd, err := c.Detach(nil)
			if err != nil || !c.MPTCP || c.Local.Port() != 440 {
				t.Errorf("accepted %v, MPTCP %v, %v", c.Local, c.MPTCP, err)
			}
			soon, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
			c.CloseDetached(false)
			soonC <- soon
		})
	}()
	for _, addr := range []string{"203.0.113.9:440", "[2001:db8:7::9]:440"} {
		c, err := new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(addr), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if <-soonC != 1 {
			t.Errorf("%s: TCP_NODELAY is not set", addr)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}

// A connection made to a far address ends here, and knows that address and the
// way in for which the filter has chosen its port.
func TestIntercept(t *testing.T) {
	l := listener(t)
	intercept(t, l)
	type accepted struct {
		dest netip.AddrPort
		way  int
		mark int
		said string
		soon int // TCP_NODELAY
	}
	acceptedC := make(chan accepted, 1)
	doneC := make(chan error)
	go func() {
		doneC <- l.Serve(func(c *mptcp.Conn, way int) {
			a := accepted{dest: c.Local, way: way}
			b := make([]byte, 3)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, _ := io.ReadFull(c, b)
			a.said = string(b[:n])
			fd, err := c.Detach(nil)
			if err != nil {
				t.Error(err)
			}
			a.mark, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
			a.soon, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
			c.CloseDetached(false)
			acceptedC <- a
		})
	}()
	for way := range ways {
		for _, addr := range []string{"203.0.113.9", "2001:db8:7::9"} {
			want := accepted{netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(440+way)), way, mark, "abc", 1}
			c, err := net.DialTimeout("tcp", want.dest.String(), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			rc, err := c.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			rc.Write(func(fd uintptr) bool { // the b is urgent, and keeps its place
				_, err = unix.Write(int(fd), []byte("a"))
				err = errors.Join(err, unix.Sendto(int(fd), []byte("b"), unix.MSG_OOB, nil))
				_, last := unix.Write(int(fd), []byte("c"))
				err = errors.Join(err, last)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if a := <-acceptedC; a != want {
				t.Errorf("accepted %+v, want %+v", a, want)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-doneC; err != nil {
		t.Errorf("Serve ends with %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestConnectionToItself(t *testing.T) {
	l := listener(t)
	go l.Serve(func(c *mptcp.Conn, _ int) { t.Errorf("handed over, for %v", c.Local) })
	for _, port := range l.Ports() {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			reset(t, netip.AddrPortFrom(netip.MustParseAddr(addr), port))
		}
	}
}

// reset connects to an address that is to reset the connection.
func reset(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v: %v, want a reset", addr, err)
	}
}

func TestPorts(t *testing.T) {
	l := listener(t)
	seen := make(map[uint16]bool)
	for i, port := range l.Ports() {
		want := []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)}
		if d := cmp.Diff(want, []string{l.ways[i].v4.Addr().String(), l.ways[i].v6.Addr().String()}); d != "" {
			t.Errorf("listens (-want +got):\n%s", d)
		}
		if seen[port] {
			t.Errorf("port %d twice", port)
		}
		seen[port] = true
	}
	// A port that is free in one family only will not do.
	run(t, "sysctl -qw net.ipv4.ip_local_port_range='40000 40007'")
	defer run(t, "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'")
	for port := 40000; port < 40008; port += 2 {
		tl, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer tl.Close()
	}
	for range 3 {
		if p, err := listen(t.Context(), mark); err == nil {
			defer p.v4.Close()
			defer p.v6.Close()
			if p.port%2 == 0 || p.port < 40000 || p.port > 40007 {
				t.Errorf("port %d", p.port)
			}
		} else if !errors.Is(err, syscall.EADDRINUSE) { // it tries at random
			t.Error(err)
		}
	}
}

func TestWithoutIPv6(t *testing.T) {
	withoutIPv6(t)
	l := listener(t)
	doneC := make(chan error)
	go func() { doneC <- l.Serve(func(*mptcp.Conn, int) {}) }()
	reset(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Ports()[0]))
	l.Close()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
	h, err := NewHeart(mark)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Beat(); err != nil || len(h.beats) != 1 {
		t.Errorf("beating with %d sockets: %v", len(h.beats), err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
