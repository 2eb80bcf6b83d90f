// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func sysctl(t *testing.T, key, value string) {
	t.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(path, old, 0) })
}

func run(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// echo serves connections that send back what they got, and keeps the
// accepted ones for inspection.
func echo(t *testing.T, addr string) (netip.AddrPort, <-chan *Conn) {
	t.Helper()
	l, err := Listen(t.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	acceptedC := make(chan *Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			acceptedC <- c
			go func() {
				defer c.Close()
				if c.WaitEstablished(context.Background(), time.Minute) == nil {
					io.Copy(c, c)
				}
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), acceptedC
}

func roundTrip(t *testing.T, c *Conn, want string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("reading echo: %v", err)
	}
	if string(buf) != want {
		t.Fatalf("echo %q, want %q", buf, want)
	}
}

func TestFastOpen(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "3")
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			peer, acceptedC := echo(t, addr)
			var d Dialer
			for i := range 3 { // the first asks for the cookie, the next use it
				c, err := d.Dial(t.Context(), netip.Addr{}, peer, []byte("hello"))
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, c, "hello")
				if !c.MPTCP {
					t.Error("not MPTCP")
				}
				if c.Remote != peer {
					t.Errorf("remote %v, want %v", c.Remote, peer)
				}
				if got, want := d.Stats.SYNData.Load(), uint64(i); got != want {
					t.Errorf("connection %d: %d SYNs with data, want %d", i, got, want)
				}
				c.Close()
				(<-acceptedC).Close()
			}
			if n := d.Stats.SYNDataLost.Load(); n != 0 {
				t.Errorf("%d SYN data lost", n)
			}
		})
	}
}

// A converter that restarts has another cookie key. On 6.18 the connection
// whose SYN data it refuses runs as TCP; the caller must not notice.
func TestStaleCookie(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "3")
	peer, _ := echo(t, "127.0.0.2:0")
	var d Dialer
	for i := range 6 {
		if i == 3 {
			sysctl(t, "net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003-00000004")
		}
		c, err := d.Dial(t.Context(), netip.Addr{}, peer, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, "hello")
		if !c.MPTCP {
			t.Errorf("connection %d is not MPTCP", i)
		}
		c.Close()
	}
	if r, l := d.Stats.Retried.Load(), d.Stats.SYNDataLost.Load(); r != 1 || l != 1 {
		t.Errorf("retried %d, SYN data lost %d, want 1 and 1", r, l)
	}
}

// A SYN with data that is lost the kernel sends again without. What comes of it
// runs as TCP (6.18): the peer accepts it, the caller gets another one.
func TestSYNLost(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "3")
	at, acceptedC := echo(t, "127.0.0.77:0")
	var d Dialer
	var accepted []bool // whether by MPTCP
	for i := range 3 {
		if i == 2 { // the first has got the cookie
			run(t, "table ip hole {\n chain c {\n type filter hook input priority 0\n tcp flags & (syn | ack) == syn meta length > 70 drop\n }\n}\n", "nft", "-f", "-")
			time.AfterFunc(500*time.Millisecond, func() { run(t, "", "nft", "delete", "table", "ip", "hole") })
		}
		c, err := d.Dial(t.Context(), netip.Addr{}, at, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, "hello")
		if !c.MPTCP {
			t.Errorf("connection %d is not MPTCP", i)
		}
		c.Close()
	}
	for range 4 {
		accepted = append(accepted, (<-acceptedC).MPTCP)
	}
	if want := []bool{true, true, false, true}; !slices.Equal(accepted, want) {
		t.Errorf("accepted by MPTCP: %v, want %v", accepted, want)
	}
}

// What the converter writes into SYN_RECV would stay there for ever.
func TestServerSpeaksFirstAfterSYNData(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "3")
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if c.WaitEstablished(context.Background(), time.Minute) == nil {
				fmt.Fprint(c, "banner")
			}
			defer c.Close()
		}
	}()
	for range 3 {
		var d Dialer
		c, err := d.Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, "banner")
		c.Close()
	}
}

func TestDialFallback(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "1")
	peer, _ := echo(t, "127.0.0.3:0") // an address without a Fast Open cookie
	tests := []struct {
		name, rules         string
		mptcp, tcp, retried uint64
	}{
		{name: "nothing in the way", mptcp: 1},
		{name: "stripped", tcp: 1,
			rules: "reset tcp option mptcp"},
		{name: "refused", tcp: 1, retried: 1,
			rules: "tcp option mptcp exists reject with tcp reset"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.rules != "" {
				run(t, "table ip t {\n chain c {\n type filter hook input priority 0\n"+tt.rules+"\n }\n}\n", "nft", "-f", "-")
				defer run(t, "", "nft", "delete", "table", "ip", "t")
			}
			var d Dialer
			c, err := d.Dial(t.Context(), netip.Addr{}, peer, []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			roundTrip(t, c, "hello")
			if got := [3]uint64{d.Stats.MPTCP.Load(), d.Stats.TCP.Load(), d.Stats.Retried.Load()}; got != [3]uint64{tt.mptcp, tt.tcp, tt.retried} {
				t.Errorf("counted mptcp, tcp, retried = %v", got)
			}
			flows, err := c.Subflows()
			if err != nil || len(flows) != 1 || flows[0].Remote != peer {
				t.Errorf("subflows %+v, %v", flows, err)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := netip.MustParseAddrPort(l.Addr().String())
	over, end := context.WithCancel(t.Context())
	end()
	soon, end := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, end)
	run(t, "", "ip", "addr", "add", "192.0.2.1/24", "dev", "lo")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// A listener whose backlog is full answers nothing.
	run(t, "table ip t {\n chain c {\n type filter hook input priority 0\n tcp dport 9 drop\n }\n}\n", "nft", "-f", "-")
	tests := []struct {
		name string
		ctx  context.Context
		src  netip.Addr
		peer netip.AddrPort
		want string
	}{
		{"refused", t.Context(), netip.Addr{}, closed, "connection refused"},
		{"unreachable", t.Context(), netip.Addr{}, netip.MustParseAddrPort("198.51.100.1:80"), "network is unreachable"},
		{"silent", ctx, netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:9"), "context deadline exceeded"},
		{"ended before", over, netip.Addr{}, open, "context canceled"},
		{"ended meanwhile", soon, netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:9"), "context canceled"},
		{"source not ours", t.Context(), netip.MustParseAddr("203.0.113.7"), closed, "binding to 203.0.113.7: cannot assign requested address"},
	}
	for _, tt := range tests {
		for _, data := range [][]byte{nil, []byte("hello")} {
			var d Dialer
			_, err := d.Dial(tt.ctx, tt.src, tt.peer, data)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s, %d bytes: %v, want %q", tt.name, len(data), err, tt.want)
			}
		}
	}
}

// A peer that does not speak MPTCP is asked once, and not again for a while.
func TestMutes(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.6:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer := netip.MustParseAddrPort(l.Addr().String())
	for _, mutes := range []bool{true, false} {
		d := Dialer{Mutes: mutes}
		var protocols []int
		for range 3 {
			c, err := d.Dial(t.Context(), netip.Addr{}, peer, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.control(func(fd int) error {
				p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
				protocols = append(protocols, p)
				return err
			})
			c.Close()
		}
		want := []int{protoMPTCP, protoMPTCP, protoMPTCP}
		if mutes {
			want = []int{protoMPTCP, unix.IPPROTO_TCP, unix.IPPROTO_TCP}
		}
		if !slices.Equal(protocols, want) {
			t.Errorf("mutes %v: protocols %v, want %v", mutes, protocols, want)
		}
		if n := d.Stats.TCP.Load(); n != 3 {
			t.Errorf("counted %d", n)
		}
	}
}

// However many peers there are, what was learned last is not forgotten, and the
// memory is bounded.
func TestManyMutes(t *testing.T) {
	var m mutes
	peer := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
	}
	for i := range 10 * mutePeers {
		m.learn(peer(i))
		if last := max(0, i-mutePeers+1); !m.has(peer(last)) || !m.has(peer(i)) {
			t.Fatalf("after %d, %d is forgotten", i, last)
		}
	}
	if n := len(m.peers) + len(m.old); n > 2*mutePeers {
		t.Errorf("%d are remembered", n)
	}
}

// What a stranger sends behind a gap, or faster than anybody reads, finds no
// more room than the kernel gives to all; a client that has been told apart
// gets what it needs at once, and all of them together no more than there is.
func TestMemory(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pushed := func(m *Memory) (sent uint64, given int64) { // nil: to a stranger
		var d Dialer
		c, err := d.Dial(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if done, err := s.Confine(); !done || err != nil {
			t.Fatal(done, err)
		}
		if m != nil {
			given = m.Give(s)
		}
		c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
		c.Write(make([]byte, 64<<20))
		flows, err := c.Subflows()
		if err != nil || len(flows) == 0 {
			t.Fatal(flows, err)
		}
		return flows[0].BytesAcked, given
	}
	var none, some Memory
	if sent, _ := pushed(nil); sent > 64<<10 {
		t.Errorf("%d bytes of a stranger were taken", sent)
	}
	if sent, given := pushed(&none); sent > 256<<10 || given != 0 {
		t.Errorf("without: %d bytes were taken, %d given", sent, given)
	}
	const total = 1 << 30
	some.left.Store(total)
	sent, given := pushed(&some)
	if sent < 1<<20 || given != 2*int64(receiveBuffer()) || some.left.Load() != total-given {
		t.Errorf("with: %d bytes were taken, %d given, %d left", sent, given, some.left.Load())
	}
	some.Return(given)
	if left := some.left.Load(); left != total {
		t.Errorf("%d left after all was returned", left)
	}
	var sum int64
	var c Conn
	c.MPTCP, c.fd = true, -1
	for range 10000 {
		sum += some.Give(&c)
	}
	if sum > total || sum < total/2 {
		t.Errorf("10,000 got %d of %d", sum, total)
	}
	if m := NewMemory(); m.left.Load() < 1<<20 {
		t.Errorf("this host has %d bytes", m.left.Load())
	}
}

// A connection that was reset is gone, one that is half-closed is not.
func TestGone(t *testing.T) {
	sysctl(t, "net.ipv4.tcp_fastopen", "3")
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d Dialer
	c, err := d.Dial(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Gone() {
		t.Error("gone when it had just come")
	}
	c.CloseWrite()
	if _, err := io.ReadAll(s); err != nil || s.Gone() {
		t.Errorf("gone when half-closed, %v", err)
	}
	if c, err = d.Dial(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if s, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, len("hello"))); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitEstablished(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, "unread"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if ti, err := c.TCPInfo(); err != nil || time.Now().After(deadline) {
			t.Fatal("nothing to read:", err)
		} else if ti.BytesReceived > 0 {
			break
		}
	}
	c.Close() // what is unread makes it a reset (MP_FASTCLOSE)
	for deadline := time.Now().Add(5 * time.Second); !s.Gone(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still there after a reset")
		}
	}
}

// A dial ends with its context also while it writes.
func TestDialWrites(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tcp := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		d := Dialer{TCP: tcp}
		c, err := d.Dial(ctx, netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), make([]byte, 64<<20))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("TCP %v: %v", tcp, err)
		}
		if c != nil {
			c.Close()
		}
	}
}
