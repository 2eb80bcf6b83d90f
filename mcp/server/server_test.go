// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"braid/mcp/config"
	"braid/mcp/host"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

func run(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

const listen = "127.0.0.1:5124"

var (
	cookie = []byte("sixteen bytes...")
	secret = []byte("thirty-two bytes that are secret")
)

// testConfig has the clients alice, by cookie, bob, by key, and the network
// 127.0.0.2/32.
func testConfig() config.Config {
	return config.Config{
		Listen:    []netip.AddrPort{netip.MustParseAddrPort(listen)},
		DenyPorts: []uint16{25},
		Clients: []config.Client{
			{Name: "alice", Cookie: cookie, Connections: 4096, Pending: 4096},
			{Name: "bob", Key: secret, Connections: 4096, Pending: 4096},
			{Name: "net", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Connections: 2, Pending: 2},
		},
	}
}

func start(t *testing.T) *Server { return startWith(t, testConfig()) }

func startWith(t testing.TB, c config.Config, set ...func(*Server)) *Server {
	t.Helper()
	s := New(c, journal.New(io.Discard))
	s.requestTimeout, s.dialTimeout = 400*time.Millisecond, 400*time.Millisecond
	for _, f := range set {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(ctx, nil, nil); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	h := host.Host{Log: s.Log, Announce: func() []netip.Addr { return nil }, Dir: t.TempDir()}
	h.Prepare()
	running.Go(func() { h.Run(ctx) })
	running.Go(func() { s.Run(ctx, ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for deadline := time.Now().Add(5 * time.Second); ; {
		c, err := net.Dial("tcp", c.Listen[0].String())
		if err == nil {
			netns.Reset(c)
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// ask sends bytes from an address and reads one Convert message.
func ask(t *testing.T, from string, b []byte) (convert.Message, *mptcp.Conn, error) {
	t.Helper()
	var d mptcp.Dialer
	c, err := d.Dial(t.Context(), netip.MustParseAddr(from), netip.MustParseAddrPort(listen), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	m, err := convert.Read(c)
	return m, c, err
}

func encode(t *testing.T, m convert.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func connectTo(t *testing.T, dest string) []byte {
	return encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort(dest), convert.KindMPTCP), cookie))
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRelay(t *testing.T) {
	start(t)
	for _, speaks := range []bool{true, false} {
		l := netns.ListenFar(t, speaks)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
		for range 3 { // the first learns the Fast Open cookie
			m, c, err := ask(t, "127.0.0.1", append(connectTo(t, l.Addr().String()), "hello"...))
			if err != nil {
				t.Fatal(err)
			}
			h, ok := convert.Find[convert.ExtendedTCPHeader](m)
			if !ok || h.Options.MPCapable() != speaks {
				t.Errorf("server speaks MPTCP: %v, answer %+v", speaks, m)
			}
			c.CloseWrite()
			if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
				t.Errorf("echo %q, %v", got, err)
			}
		}
		l.Close()
	}
}

func TestRefused(t *testing.T) {
	netns.Far(t)
	run(t, "", "ip", "route", "replace", "unreachable", "198.18.0.99/32")
	run(t, "", "ip", "neigh", "replace", "198.18.0.9", "lladdr", "02:00:00:00:00:09", "dev", "far0")
	s := start(t)
	big := encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort("198.18.0.80:80")), bytes.Repeat([]byte{1}, 900)))
	tests := []struct {
		name, from string
		request    []byte
		want       convert.ErrorCode
		reset      bool // no answer at all
	}{
		{name: "closed port", request: connectTo(t, "198.18.0.80:1"), want: convert.ConnectionReset},
		{name: "unreachable", request: connectTo(t, "198.18.0.99:80"), want: convert.DestinationUnreachable},
		{name: "no route", request: connectTo(t, "198.19.0.1:80"), want: convert.DestinationUnreachable},
		{name: "silent", request: connectTo(t, "198.18.0.9:80"), want: convert.NetworkFailure},
		{name: "private", request: connectTo(t, "192.168.0.1:80"), want: convert.NotAuthorized},
		{name: "carrier NAT", request: connectTo(t, "100.64.0.1:80"), want: convert.NotAuthorized},
		{name: "mail", request: connectTo(t, "198.18.0.80:25"), want: convert.NotAuthorized},
		{name: "own address", request: connectTo(t, "198.18.0.1:80"), want: convert.NotAuthorized},
		{name: "private behind NAT64", request: connectTo(t, "[64:ff9b::10.0.0.1]:80"), want: convert.NotAuthorized},
		{name: "stranger", request: encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort("198.18.0.80:80")), nil)), want: convert.NotAuthorized},
		{name: "wrong cookie", request: encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort("198.18.0.80:80")), []byte("x"))), want: convert.NotAuthorized},
		{name: "stranger's long message", request: big, want: convert.NotAuthorized},
		{name: "stranger, malformed", request: unhex(t, "01 02 2263 0a 09 0000"), want: convert.NotAuthorized},
		{name: "malformed", from: "127.0.0.2", request: unhex(t, "01 02 2263 0a 09 0000"), want: convert.MalformedMessage},
		{name: "duplicate", from: "127.0.0.2", request: unhex(t, "01 03 2263 01 01 0000 01 01 0000"), want: convert.MalformedMessage},
		{name: "loopback", from: "127.0.0.2", request: unhex(t, "01 06 2263 0a 05 0050 00000000 00000000 0000ffff 7f000001"), want: convert.MalformedMessage},
		{name: "version", from: "127.0.0.2", request: unhex(t, "02 01 2263"), want: convert.UnsupportedVersion},
		{name: "unknown TLV", from: "127.0.0.2", request: unhex(t, "01 02 2263 63 01 0000"), want: convert.UnsupportedMessage},
		{name: "TCP option", from: "127.0.0.2", request: unhex(t, "01 07 2263 0a 06 0050 00000000 00000000 0000ffff c6120050 fe020000"), want: convert.UnsupportedTCPOption},
		{name: "cut and silent", from: "127.0.0.2", request: unhex(t, "01 06 2263 0a 05 0050"), want: convert.MalformedMessage},
		{name: "garbage", request: []byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), reset: true},
		{name: "zeros", request: make([]byte, 4096), reset: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from := tt.from
			if from == "" {
				from = "127.0.0.1"
			}
			before := s.Stats.Errors(tt.want)
			m, c, err := ask(t, from, tt.request)
			if tt.reset {
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("answer %+v, %v, want a reset", m, err)
				}
				return
			}
			e, ok := convert.Find[convert.Error](m)
			if err != nil || !ok || e.Code != tt.want {
				t.Fatalf("answer %+v, %v, want %v", m, err, tt.want)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("after the answer: %d bytes, %v", n, err)
			}
			if got := s.Stats.Errors(tt.want) - before; got != 1 {
				t.Errorf("counted %d", got)
			}
		})
	}
	for deadline := time.Now().Add(5 * time.Second); s.Stats.Open.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d are open still", s.Stats.Open.Load())
		}
	}
}

// A byte now and then does not keep a connection beyond the limit for the
// whole request.
func TestSlow(t *testing.T) {
	s := start(t)
	var d mptcp.Dialer
	c, err := d.Dial(t.Context(), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddrPort(listen), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stopC := make(chan struct{})
	defer close(stopC)
	go func() {
		for _, b := range connectTo(t, "198.18.0.80:80") {
			select {
			case <-stopC:
				return
			case <-time.After(50 * time.Millisecond):
				c.Write([]byte{b})
			}
		}
	}()
	began := time.Now()
	c.SetReadDeadline(began.Add(5 * time.Second))
	m, err := convert.Read(c)
	e, ok := convert.Find[convert.Error](m)
	if err != nil || !ok || e.Code != convert.MalformedMessage {
		t.Errorf("answer %+v, %v", m, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	c.Close()
	for deadline := time.Now().Add(5 * time.Second); s.count() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are served still", s.count())
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	start(t)
	l := netns.ListenFar(t, false)
	request := encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort(l.Addr().String())), nil))
	var open []*mptcp.Conn
	for range 2 {
		m, c, err := ask(t, "127.0.0.2", request)
		if err != nil || len(m.TLVs) != 0 {
			t.Fatalf("answer %+v, %v", m, err)
		}
		open = append(open, c)
	}
	m, _, err := ask(t, "127.0.0.2", request)
	if e, ok := convert.Find[convert.Error](m); err != nil || !ok || e.Code != convert.ResourceExceeded {
		t.Errorf("the third: %+v, %v", m, err)
	}
	open[0].Reset()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		m, _, err := ask(t, "127.0.0.2", request)
		if err == nil && len(m.TLVs) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after one has gone: %+v, %v", m, err)
		}
	}
}

// What a converter can do is told to known clients whatever their limit.
func TestInfo(t *testing.T) {
	s := start(t)
	from := netip.MustParseAddr("127.0.0.2")
	neighbour := s.clients.Load().byNetwork(from)
	for range 2 {
		if err := neighbour.admit(from, time.Now()); err != nil {
			t.Fatal(err)
		}
		defer neighbour.release()
		defer neighbour.connected()
	}
	m, _, err := ask(t, "127.0.0.2", encode(t, convert.Reply(convert.Info{})))
	x, ok := convert.Find[convert.SupportedTCPExtensions](m)
	if err != nil || !ok || !bytes.Equal(x.Kinds, []byte{convert.KindMPTCP}) || len(m.TLVs) != 1 {
		t.Errorf("answer %+v, %v", m, err)
	}
	m, _, err = ask(t, "127.0.0.2", encode(t, convert.Reply(convert.Info{}, convert.Families{})))
	_, ok = convert.Find[convert.SupportedTCPExtensions](m)
	if e, full := convert.Find[convert.Error](m); err != nil || !ok || !full || e.Code != convert.ResourceExceeded {
		t.Errorf("a gateway without room for a connection gets %+v, %v", m, err)
	}
	m, _, err = ask(t, "127.0.0.3", encode(t, convert.Reply(convert.Info{})))
	if e, ok := convert.Find[convert.Error](m); err != nil || !ok || e.Code != convert.NotAuthorized {
		t.Errorf("a stranger gets %+v, %v", m, err)
	}
}

// A converter that is asked tells which families it has a way out for.
func TestFamilies(t *testing.T) {
	start(t)
	run(t, "", "ip", "link", "add", "v2", "type", "veth", "peer", "name", "v3")
	defer run(t, "", "ip", "link", "del", "v2")
	run(t, "", "ip", "link", "set", "v2", "up")
	run(t, "", "ip", "link", "set", "v3", "up")
	run(t, "", "ip", "addr", "add", "203.0.113.2/24", "dev", "v2")
	for _, tt := range []struct {
		setup string
		want  convert.Families
	}{
		{"", convert.Families{}},
		{"route add default via 203.0.113.1 dev v2", convert.Families{IPv4: true}},
		{"-6 route add default via fe80::1 dev v2", convert.Families{IPv4: true}}, // but no address to send from
		{"addr add 2001:db8:3::2/64 dev v2 nodad", convert.Families{IPv4: true, IPv6: true}},
		{"-6 route del default dev v2", convert.Families{IPv4: true}},
		{"-6 route add unreachable default", convert.Families{IPv4: true}}, // as systems without IPv6 have it
		{"-6 route del unreachable default", convert.Families{IPv4: true}},
		{"route del default dev v2", convert.Families{}},
	} {
		if tt.setup != "" {
			run(t, "", append([]string{"ip"}, strings.Fields(tt.setup)...)...)
		}
		m, _, err := ask(t, "127.0.0.2", encode(t, convert.Reply(convert.Info{}, convert.Families{})))
		f, ok := convert.Find[convert.Families](m)
		if _, can := convert.Find[convert.SupportedTCPExtensions](m); err != nil || !ok || !can || f != tt.want {
			t.Errorf("after %q: answer %+v, %v, want %+v", tt.setup, m, err, tt.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	netns.Far(t)
	run(t, "", "ip", "addr", "replace", "203.0.113.10/32", "dev", "lo")
	run(t, "", "ip", "addr", "replace", "10.1.9.9/32", "dev", "lo")
	run(t, "", "ip", "route", "replace", "local", "203.0.113.64/26", "dev", "lo") // AnyIP
	c := testConfig()
	c.AllowDestinations = prefixes("10.1.0.0/16", "203.0.113.0/24")
	c.DenyDestinations = prefixes("192.0.2.128/25")
	c.Announce = []netip.Addr{netip.MustParseAddr("192.0.2.7")} // of a 1:1 NAT
	s := New(c, journal.New(io.Discard))
	s.nat64.Store(&[]netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96"), netip.MustParsePrefix("2001:db8:4800::/48")})
	for addr, want := range map[string]bool{
		"192.0.2.80": true, "2001:db8::1": true, "10.1.2.3": true, "64:ff9b::c000:250": true, "2002:c000:250::1": true,
		"2001:db8:64::c000:250": true, "203.0.113.11": true,
		"10.2.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "100.64.0.1": false, "169.254.1.1": false,
		"127.0.0.1": false, "::1": false, "::": false, "0.0.0.0": false, "fe80::1": false, "fd00::1": false,
		"ff02::1": false, "224.0.0.1": false, "255.255.255.255": false,
		// This host's own, however they are written and whatever is allowed.
		"203.0.113.10": false, "203.0.113.70": false, "10.1.9.9": false, "198.18.0.1": false, "198.18.0.255": false, "192.0.2.7": false,
		"::ffff:203.0.113.10": false, "64:ff9b::203.0.113.10": false, "2002:cb00:710a::1": false, "64:ff9b::192.0.2.7": false,
		// Forbidden ones in others.
		"::ffff:10.2.0.1": false, "64:ff9b::a02:1": false, "::10.2.0.1": false, "::192.0.2.80": false,
		"64:ff9b:1::1": false, "64:ff9b:1:abcd::10.2.0.1": false, "2002:a02:1::1": false, "2002:7f00:1::1": false,
		"2001:0:a02:1::1": false, "2001:0:c000:250:0:0:f5fd:fffe": false, "2001:0:c000:250:0:0:3fff:fdaf": true, // Teredo
		"2001:db8::5efe:10.2.0.1": false, "2001:db8::200:5efe:10.2.0.1": false, "2001:db8::5efe:192.0.2.80": true, // ISATAP
		"2001:db8:64::10.2.0.1": false, "2001:db8:4800:a02:0:100::": false, "2001:db8:4800:c000:2:5000::": true, // the network's NAT64
		"::ffff:0:10.2.0.1": false, "fec0::1": false,
		"168.63.129.16": false, "192.0.0.192": false, "fd00:ec2::254": false, // clouds
		"192.0.2.129": false, "64:ff9b::192.0.2.129": false, // denied
	} {
		a := netip.MustParseAddr(addr)
		if got := s.allowed(config.Client{}, netip.AddrPortFrom(a, 443)) == nil; got != want {
			t.Errorf("%s allowed: %v", addr, got)
		}
		if s.allowed(config.Client{}, netip.AddrPortFrom(a, 25)) == nil {
			t.Errorf("%s allowed for mail", addr)
		}
	}
	few := config.Client{Destinations: prefixes("192.0.2.0/26")}
	for addr, want := range map[string]bool{"192.0.2.1:80": true, "192.0.2.80:80": false, "192.0.2.7:80": false, "192.0.2.1:25": false} {
		if got := s.allowed(few, netip.MustParseAddrPort(addr)) == nil; got != want {
			t.Errorf("%s allowed to a client with few: %v", addr, got)
		}
	}
}

func TestPrefixes64(t *testing.T) {
	var addrs []netip.Addr
	for _, a := range []string{"64:ff9b::c000:aa", "2001:db8:64::c000:ab", "2001:db8:4800:c000:0:aa00::", "2001:db8::1", "192.0.0.170"} {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	want := prefixes("64:ff9b::/96", "2001:db8:64::/96", "2001:db8:4800::/48")
	if got := prefixes64(addrs); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Over sockets: what nobody is to reach is refused, whoever asks, and nothing is
// sent there; what becomes this host's own is so from that moment on.
func TestHostile(t *testing.T) {
	netns.Far(t)
	c := testConfig()
	c.Metrics = "198.18.0.1:9124"
	c.AllowDestinations = prefixes("10.9.0.0/16")
	c.Announce = []netip.Addr{netip.MustParseAddr("192.0.2.7")} // of a 1:1 NAT
	s := startWith(t, c)
	s.nat64.Store(&[]netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")})
	// Everything that is sent anywhere arrives here, and is counted.
	run(t, "", "ip", "link", "add", "trap0", "type", "veth", "peer", "name", "trap1")
	defer run(t, "", "ip", "link", "del", "trap0")
	for _, args := range []string{"link set trap0 up", "link set trap1 up", "addr add 203.0.113.201/24 dev trap0", "addr add 2001:db8:7::1/64 dev trap0 nodad",
		"route add default dev trap0", "-6 route add default dev trap0"} {
		run(t, "", append([]string{"ip"}, strings.Fields(args)...)...)
	}
	run(t, `table inet trap { chain out { type filter hook output priority 0
		oifname "trap0" meta l4proto tcp counter name sent drop
	}
	counter sent { }
	}`, "nft", "-f", "-")
	defer run(t, "", "nft", "delete", "table", "inet", "trap")
	sent := func() string {
		out, err := exec.Command("nft", "list", "counter", "inet", "trap", "sent").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(out), "packets ")
		n, _, _ := strings.Cut(rest, " ")
		return n
	}
	request := func(dest string) []byte { // the codec itself refuses some
		to := netip.MustParseAddrPort(dest)
		b := connectTo(t, "192.0.2.1:80")
		binary.BigEndian.PutUint16(b[6:], to.Port())
		a := to.Addr().As16()
		copy(b[8:], a[:])
		return b
	}
	refused := func(dest string) {
		t.Helper()
		answer, _, err := tell(t, "127.0.0.1", request(dest))
		if got := code(t, answer, err); got != convert.NotAuthorized.String() && got != convert.MalformedMessage.String() {
			t.Errorf("%s: %s", dest, got)
		}
	}
	before := sent()
	for _, dest := range []string{
		// own ones, the metrics among them
		"127.0.0.1:9124", "198.18.0.1:9124", "[::1]:9124", "[::ffff:198.18.0.1]:9124", "203.0.113.201:22", "203.0.113.255:80", "192.0.2.7:5124",
		"[2001:db8:7::1]:5124", "[64:ff9b::198.18.0.1]:9124", "[64:ff9b::192.0.2.7]:5124", "[2002:c612:1::1]:9124", "[2001:db8:64::198.18.0.1]:9124",
		"[::198.18.0.1]:9124", "[::ffff:0:198.18.0.1]:9124", "[2001:db8:5::5efe:198.18.0.1]:9124", "[2001:0:c612:1::1]:9124",
		// networks behind
		"10.0.0.1:80", "172.31.255.255:80", "192.168.0.1:80", "100.64.0.1:80", "192.0.0.8:80", "0.0.0.0:80", "0.1.2.3:80", "240.0.0.1:80",
		"[fd00::1]:80", "[fe80::1]:80", "[fec0::1]:80", "[64:ff9b:1::10.0.0.1]:80", "[64:ff9b:1:ffff::1]:80", "[64:ff9b::10.0.0.1]:80",
		"[2002:a00:1::1]:80", "[2002:7f00:1::]:80", "[2001:db8:64::192.168.0.1]:80", "[2001:0:4136:e378:8000:63bf:f5ff:fffe]:80", // Teredo of 10.0.0.1
		"[::10.0.0.1]:80", "[::ffff:0:10.0.0.1]:80", "[2001:db8:5:0:200:5efe:10.0.0.1]:80",
		// everybody's and nobody's
		"224.0.0.251:5353", "255.255.255.255:80", "[ff02::fb]:5353", "[::]:80",
		// the clouds' own services
		"169.254.169.254:80", "[64:ff9b::169.254.169.254]:80", "[::ffff:169.254.169.254]:80", "[2002:a9fe:a9fe::]:80", "168.63.129.16:80", "192.0.0.192:80",
		"100.100.100.200:80", "[fd00:ec2::254]:80", "[fd20:ce::254]:80", "[fe80::a9fe:a9fe]:80", "[2001:db8:64::168.63.129.16]:80",
		// mail, where all else may be reached
		"198.51.100.25:25", "[2001:db8::25]:25", "10.9.0.1:25",
	} {
		refused(dest)
	}
	if n := sent(); n != before {
		t.Errorf("packets were sent: %s, before %s", n, before)
	}
	// To what is allowed something is sent, until it becomes this host's own: by an
	// address, by a route, by what is to be announced.
	allowed := func(dest string) {
		t.Helper()
		before := sent()
		tell(t, "127.0.0.1", request(dest))
		if sent() == before {
			t.Errorf("nothing was sent to %s", dest)
		}
	}
	for _, become := range [][2]string{{"addr add 198.51.100.77/32 dev lo", "addr del 198.51.100.77/32 dev lo"},
		{"route add local 198.51.100.64/26 dev lo", "route del local 198.51.100.64/26 dev lo"}} {
		allowed("198.51.100.77:80")
		run(t, "", append([]string{"ip"}, strings.Fields(become[0])...)...)
		refused("198.51.100.77:80")
		run(t, "", append([]string{"ip"}, strings.Fields(become[1])...)...)
	}
	allowed("198.51.100.77:80")
	c.Announce = append(c.Announce, netip.MustParseAddr("198.51.100.77"))
	s.Reload(c)
	refused("198.51.100.77:80")
	allowed("10.9.0.1:80")
}
