// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"braid/mcp/config"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// tell sends a message and returns the bytes of the answer.
func tell(t *testing.T, from string, b []byte) ([]byte, *mptcp.Conn, error) {
	t.Helper()
	var d mptcp.Dialer
	c, err := d.Dial(t.Context(), netip.MustParseAddr(from), netip.MustParseAddrPort(listen), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(b); err != nil {
		return nil, c, err
	}
	answer, err := convert.Receive(c)
	return answer, c, err
}

func code(t *testing.T, answer []byte, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	m, _, err := convert.Parse(answer)
	if err != nil {
		return err.Error()
	}
	if e, ok := convert.Find[convert.Error](m); ok {
		return e.Code.String()
	}
	return "served"
}

// Over sockets: what proves a key is served once, and what does not is not.
func TestProof(t *testing.T) {
	s := start(t)
	l := netns.ListenFar(t, false)
	accepted := 0
	connectedC := make(chan struct{}, 16)
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
			connectedC <- struct{}{}
		}
	}()
	connect := convert.Request(convert.NewConnect(netip.MustParseAddrPort(l.Addr().String())), nil)
	bob := proof.NewClient(secret)
	prove := func(m convert.Message) proof.Request {
		r, err := bob.Prove(m)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	expect := func(what string, r proof.Request, want string) []byte {
		t.Helper()
		answer, _, err := tell(t, "127.0.0.1", r.Bytes)
		if got := code(t, answer, err); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if want == "served" {
			accepted++
		}
		return answer
	}
	first := prove(connect)
	if err := first.Hear(expect("without a ticket", first, "Missing Cookie")); err != nil {
		t.Fatal(err)
	}
	second := prove(connect)
	expect("with it", second, "served")
	expect("replayed", second, "Missing Cookie")
	expect("replayed first contact", first, "Missing Cookie")
	forged := prove(connect)
	binary.BigEndian.PutUint16(forged.Bytes[6:], 80) // another port
	expect("forged", forged, "Not Authorized")
	info := prove(convert.Reply(convert.Info{}, convert.Families{}))
	answer, _, err := tell(t, "127.0.0.1", info.Bytes)
	if got := code(t, answer, err); got != "served" || info.Hear(answer) != nil {
		t.Errorf("info: %s, %v", got, info.Hear(answer))
	}
	// A ticket of another run, as after a restart.
	asked := prove(convert.Reply(convert.Info{}))
	other := proof.Holder{Key: proof.NewKey(secret)}
	m, _, err := convert.Parse(asked.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err = other.Grant(proof.NewIssuer(12345), proof.First, m, convert.Message{}); err != nil {
		t.Fatal(err)
	}
	if err := asked.Hear(answer); err != nil {
		t.Fatal(err)
	}
	old := prove(connect)
	if err := old.Hear(expect("with a ticket of another run", old, "Missing Cookie")); err != nil {
		t.Error(err)
	}
	expect("with the new ticket", prove(connect), "served")
	clear := convert.Request(connect.TLVs[0].(convert.Connect), secret)
	expect("the secret in clear", proof.Request{Bytes: encode(t, clear)}, "Not Authorized")
	for range accepted {
		select {
		case <-connectedC:
		case <-time.After(5 * time.Second):
			t.Fatal("a connection that was served is not at its server")
		}
	}
	select {
	case <-connectedC:
		t.Errorf("more than %d connections were made", accepted)
	case <-time.After(50 * time.Millisecond):
	}
	for _, c := range s.clientStatus() {
		if c.Name == "bob" && (c.Relayed != 2 || c.Refused["replayed proof"] != 1 || c.Refused["first proof"] != 2 || c.Refused["stale proof"] != 1) {
			t.Errorf("account: %+v", c)
		}
	}
	if n := s.Stats.WrongCookies.Load(); n != 2 {
		t.Errorf("%d wrong cookies", n)
	}
}

// However many strangers wait, from one address or from many, a client is
// served at once, even from their address.
func TestStrangers(t *testing.T) {
	s := startWith(t, testConfig(), func(s *Server) { s.requestTimeout = time.Minute })
	l := netns.ListenFar(t, false)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			netns.Reset(c)
		}
	}()
	each := s.strangers.mostOfSource + 100
	for i := range 2 * each {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i/each+1))}}
		c, err := d.Dial("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if i%each%100 == 0 {
			began := time.Now()
			answer, _, err := tell(t, fmt.Sprintf("127.0.1.%d", i/each+1), connectTo(t, l.Addr().String()))
			if got := code(t, answer, err); got != "served" || time.Since(began) > 5*time.Second {
				t.Errorf("with %d strangers: %s after %v", i, got, time.Since(began))
			}
		}
	}
	for deadline := time.Now().Add(5 * time.Second); s.Stats.Shed.Load() < 200; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d were shed", s.Stats.Shed.Load())
		}
	}
	if n := s.strangers.waiting(); n > 2*s.strangers.mostOfSource {
		t.Errorf("%d strangers", n)
	}
	// Of each address a hundred have gone, of those that came first.
	gone := 0
	for _, c := range conns[:each/2] {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) {
			gone++
		}
	}
	if gone < 90 {
		t.Errorf("of the oldest %d have gone", gone)
	}
}

// Of all strangers, the oldest goes; the bookkeeping is right and takes no time.
func TestGate(t *testing.T) {
	g := newGate()
	g.most = 1000
	var all []*stranger
	at := func(i int) netip.Prefix {
		return source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	for i := range 100000 {
		st, oldest := g.enter(new(mptcp.Conn), at(i))
		all = append(all, st)
		if i >= g.most && oldest != all[i-g.most].conn || i < g.most && oldest != nil {
			t.Fatalf("at the %dth", i)
		}
	}
	if len(g.sources) != g.most || g.waiting() != g.most {
		t.Errorf("%d sources, %d waiting", len(g.sources), g.waiting())
	}
	began := time.Now()
	for _, st := range all {
		g.leave(st)
		g.leave(st)
	}
	if took := time.Since(began) / time.Duration(2*len(all)); took > 50*time.Microsecond {
		t.Errorf("leaving takes %v", took)
	}
	if len(g.sources) != 0 || g.waiting() != 0 {
		t.Errorf("left: %d sources, %d waiting", len(g.sources), g.waiting())
	}
	for i := range 3 * answersPerSecond {
		if g.mayAnswer(at(1)) != (i < answersPerSecond) {
			t.Errorf("answer %d", i)
			break
		}
	}
}

func manyClients(n int) *clients {
	list := make([]config.Client, n)
	for i := range list {
		b := binary.BigEndian.AppendUint64([]byte("sixteen bytes..."), uint64(i))
		list[i] = config.Client{Name: fmt.Sprint(i), Key: b, Cookie: b,
			Networks: []netip.Prefix{source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))}}
	}
	return newClients(list, nil)
}

func BenchmarkFind(b *testing.B) {
	cs := manyClients(100000)
	cookie := convert.Cookie{Value: cs.accounts[99999].client.Cookie}
	from := netip.MustParseAddr("10.1.134.159") // the last one's
	for b.Loop() {
		if cs.byCookie(cookie) != cs.accounts[99999] || cs.byNetwork(from) != cs.accounts[99999] {
			b.Fatal("not found")
		}
	}
}

func BenchmarkGate(b *testing.B) {
	g := newGate()
	for i := range 16000 {
		g.enter(new(mptcp.Conn), source(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
	}
	c, from := new(mptcp.Conn), source(netip.MustParseAddr("192.0.2.1"))
	for b.Loop() {
		st, _ := g.enter(c, from)
		g.leave(st)
	}
}

// The smallest network counts.
func TestNetworks(t *testing.T) {
	cs := newClients([]config.Client{
		{Name: "all", Networks: prefixes("0.0.0.0/0", "::/0")},
		{Name: "some", Networks: prefixes("192.0.2.0/24", "2001:db8::/32")},
		{Name: "one", Networks: prefixes("192.0.2.7/32", "2001:db8::7/128")},
	}, nil)
	for a, want := range map[string]string{
		"198.51.100.1": "all", "192.0.2.1": "some", "192.0.2.7": "one", "2001:db9::1": "all", "2001:db8::1": "some", "2001:db8::7": "one",
	} {
		if got := cs.byNetwork(netip.MustParseAddr(a)); got == nil || got.name != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if cs := newClients(nil, nil); cs.byNetwork(netip.MustParseAddr("192.0.2.1")) != nil || cs.byCookie(convert.Cookie{}) != nil || cs.byKey(convert.Cookie{}) != nil {
		t.Error("found where there is nobody")
	}
}

// Each limit of a client holds, for it alone.
func TestLimits(t *testing.T) {
	l := netns.ListenFar(t, false)
	to := netip.MustParseAddrPort(l.Addr().String())
	request := encode(t, convert.Request(convert.NewConnect(to), nil))
	client := func(t *testing.T, change func(*config.Client), set ...func(*Server)) *Server {
		t.Helper()
		c := testConfig()
		cl := config.Client{Name: "few", Networks: prefixes("127.0.0.3/32"), Connections: 100, Pending: 100}
		change(&cl)
		c.Clients = append(c.Clients, cl)
		return startWith(t, c, set...)
	}
	again := func(t *testing.T, n int) (served int) {
		t.Helper()
		for range n {
			answer, _, err := tell(t, "127.0.0.3", request)
			switch got := code(t, answer, err); got {
			case "served":
				served++
			case "Resource Exceeded":
			default:
				t.Errorf("answer %s", got)
			}
		}
		return served
	}
	t.Run("a second", func(t *testing.T) {
		client(t, func(c *config.Client) { c.PerSecond = 5 })
		began := time.Now()
		if n := again(t, 40); n < 5 || n > 6+5*int(time.Since(began).Seconds()+1) {
			t.Errorf("%d in %v", n, time.Since(began))
		}
	})
	t.Run("expired", func(t *testing.T) {
		client(t, func(c *config.Client) { c.Expires = time.Now() })
		answer, _, err := tell(t, "127.0.0.3", request)
		if got := code(t, answer, err); got != "Not Authorized" {
			t.Errorf("a Connect: %s", got)
		}
		answer, _, err = tell(t, "127.0.0.3", encode(t, convert.Reply(convert.Info{})))
		if got := code(t, answer, err); got != "Not Authorized" {
			t.Errorf("an Info: %s", got)
		}
	})
	t.Run("pending", func(t *testing.T) {
		run(t, "", "ip", "neigh", "replace", "198.18.0.9", "lladdr", "02:00:00:00:00:09", "dev", "far0")
		s := client(t, func(c *config.Client) { c.Pending = 1 }, func(s *Server) { s.dialTimeout = time.Minute })
		var d mptcp.Dialer
		silent, err := d.Dial(t.Context(), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddrPort(listen),
			encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort("198.18.0.9:80")), nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		for deadline := time.Now().Add(5 * time.Second); s.clientStatus()[3].Pending != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the dial is not pending")
			}
		}
		if n := again(t, 3); n != 0 {
			t.Errorf("%d beside a pending one", n)
		}
		// Who leaves does not go on waiting for a server.
		time.Sleep(20 * time.Millisecond)
		silent.Reset()
		for deadline := time.Now().Add(5 * time.Second); again(t, 1) != 1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it is pending still")
			}
		}
	})
	t.Run("rate", func(t *testing.T) {
		client(t, func(c *config.Client) { c.Rate = 4000 })
		l := netns.ListenFar(t, false)
		const total = 1_500_000 // of which 500,000 are there at once
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Write(make([]byte, total))
				c.Close()
			}
		}()
		began := time.Now()
		_, c, err := tell(t, "127.0.0.3", encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort(l.Addr().String())), nil)))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, c)
		if took := time.Since(began); n != total || err != nil || took < 1800*time.Millisecond {
			t.Errorf("%d bytes in %v, %v", n, took, err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		client(t, func(c *config.Client) { c.Connections = 300 })
		closed := encode(t, convert.Request(convert.NewConnect(netip.MustParseAddrPort("198.18.0.80:1")), nil))
		for i := range 300 {
			answer, c, err := tell(t, "127.0.0.3", closed)
			if got := code(t, answer, err); got != "Connection Reset" {
				t.Fatalf("refused connect %d: %s", i, got)
			}
			c.Reset()
		}
	})
}

// When the line is full, one connection of one client gets as much as twenty of
// another's, who wants little does not wait, and who is alone has all.
func TestShare(t *testing.T) {
	const rate = 80_000 // kbit/s
	c := testConfig()
	c.Rate = rate
	c.Clients[2].Connections, c.Clients[2].Pending = 100, 100
	c.Clients = append(c.Clients, config.Client{Name: "small", Networks: prefixes("127.0.0.4/32"), Connections: 1, Pending: 1})
	s := startWith(t, c)
	l := netns.ListenFar(t, false)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1<<16)
				if n, _ := c.Read(b[:1]); n == 0 {
					return
				} else if b[0] == 'e' { // an echo
					c.Write(b[:1])
					io.Copy(c, c)
					return
				}
				for {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	to := netip.MustParseAddrPort(l.Addr().String())
	open := func(from string, cookie []byte, first string) *mptcp.Conn {
		_, c, err := tell(t, from, encode(t, convert.Request(convert.NewConnect(to), cookie)))
		if err == nil {
			c.SetReadDeadline(time.Now().Add(time.Minute))
			_, err = c.Write([]byte(first))
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var got [2]atomic.Int64
	download := func(who int, c *mptcp.Conn) {
		b := make([]byte, 1<<16)
		for {
			n, err := c.Read(b)
			got[who].Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	measure := func() (rates [2]float64) { // kbit/s
		before, began := [2]int64{got[0].Load(), got[1].Load()}, time.Now()
		time.Sleep(2 * time.Second)
		for i := range rates {
			rates[i] = float64(got[i].Load()-before[i]) * 8 / 1000 / time.Since(began).Seconds()
		}
		return rates
	}
	var many []*mptcp.Conn
	for range 20 {
		many = append(many, open("127.0.0.2", nil, "d"))
		go download(0, many[len(many)-1])
	}
	time.Sleep(500 * time.Millisecond) // what the buffers take
	alone := measure()
	one := open("127.0.0.1", cookie, "d")
	go download(1, one)
	small := open("127.0.0.4", nil, "e")
	echo := func() time.Duration {
		began := time.Now()
		if _, err := small.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(small, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	if _, err := io.ReadFull(small, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // until what twenty were allowed before has gone
	both := measure()
	waited := time.Minute
	for range 10 {
		waited = min(waited, echo())
	}
	if waited > 50*time.Millisecond { // a connection of the others' waits for 0.1 s and more
		t.Errorf("who wants little waits %v", waited)
	}
	t.Logf("kbit/s: twenty alone %.0f, beside one %.0f, the one %.0f", alone[0], both[0], both[1])
	if alone[0] < 0.8*rate || alone[0] > 1.1*rate || both[0]+both[1] > 1.1*rate {
		t.Errorf("of %d kbit/s: %v, then %v", rate, alone, both)
	}
	if ratio := both[1] / both[0]; ratio < 0.8 || ratio > 1.25 {
		t.Errorf("one has %.2f times what the other's twenty have", ratio)
	}
	for _, c := range many {
		c.Reset()
	}
	one.Reset()
	c.Rate = 0
	s.Reload(c)
	echo()
}

// A client that is removed while its server is dialled is not served.
func TestRemovedWhileDialling(t *testing.T) {
	l := netns.ListenFar(t, false)
	c := testConfig()
	s := startWith(t, c, func(s *Server) { s.dialTimeout = 10 * time.Second })
	run(t, fmt.Sprintf("table ip t { chain o { type filter hook output priority 0; tcp dport %d drop; }; }", l.Addr().(*net.TCPAddr).Port), "nft", "-f", "-")
	defer exec.Command("nft", "delete table ip t").Run()
	answerC := make(chan string, 1)
	go func() {
		answer, _, err := tell(t, "127.0.0.3", connectTo(t, l.Addr().String()))
		answerC <- code(t, answer, err)
	}()
	alice := s.clients.Load().accounts[0]
	dialling := func() bool {
		alice.mu.Lock()
		defer alice.mu.Unlock()
		return alice.pending > 0
	}
	for end := time.Now().Add(5 * time.Second); !dialling(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no server is dialled")
		}
	}
	c.Clients = c.Clients[1:]
	s.Reload(c)
	run(t, "", "nft", "delete table ip t")
	if got := <-answerC; got != convert.NotAuthorized.String() {
		t.Errorf("%s", got)
	}
	if n := s.Stats.Relayed.Load(); n != 0 {
		t.Errorf("%d are relayed", n)
	}
}

// All ports to one server from one address are taken: that is about this server,
// which is what the client is told, and another address has ports left.
func TestPorts(t *testing.T) {
	const ports = 8
	l := netns.ListenFar(t, false)
	fromC := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			fromC <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		}
	}()
	const name = "/proc/sys/net/ipv4/ip_local_port_range"
	before, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, fmt.Appendf(nil, "40000 %d", 40000+ports-1), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(name, before, 0)
	c := testConfig()
	c.Source = []netip.Addr{netip.MustParseAddr("198.18.0.1")}
	s := startWith(t, c)
	clients := 0
	ask := func() string {
		clients++
		answer, _, err := tell(t, fmt.Sprintf("127.0.3.%d", clients), connectTo(t, l.Addr().String()))
		return code(t, answer, err)
	}
	for i := range ports {
		if got := ask(); got != "served" {
			t.Fatalf("connection %d: %s", i, got)
		}
		if from := <-fromC; from != "198.18.0.1" {
			t.Errorf("from %s", from)
		}
	}
	if got := ask(); got != convert.NetworkFailure.String() {
		t.Errorf("with all ports taken: %s", got)
	}
	c.Source = append(c.Source, netip.MustParseAddr("198.18.0.2"))
	s.Reload(c)
	for i := range ports {
		if got := ask(); got != "served" {
			t.Fatalf("connection %d with another address: %s", i, got)
		}
		if from := <-fromC; from != "198.18.0.2" {
			t.Errorf("from %s", from)
		}
	}
	if got := ask(); got != convert.NetworkFailure.String() {
		t.Errorf("with all ports of both taken: %s", got)
	}
}

// FuzzAccept holds that a stranger, whatever he sends, gets error 32 or nothing.
func FuzzAccept(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{1, 1, 0x22, 0x63})
	f.Add([]byte{1, 2, 0x22, 0x63, 1, 1, 0, 0, 9, 9, 9, 9})
	r, err := proof.NewClient([]byte("another secret of a stranger")).Prove(convert.Reply(convert.Info{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Bytes)
	// Each worker is a process, and all are in the same namespace.
	c := testConfig()
	own := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(os.Getpid() >> 8), byte(os.Getpid())}), 5124)
	c.Listen = []netip.AddrPort{own}
	s := startWith(f, c)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d mptcp.Dialer
		c, err := d.Dial(t.Context(), netip.Addr{}, own, b)
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return // out of ports for a moment, which a fuzzer uses up
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Reset()
		c.CloseWrite()
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		m, err := convert.Read(c)
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
			errors.Is(err, syscall.ENOTCONN) { // what MPTCP says of a reset that has been told of
			return
		}
		if e, ok := convert.Find[convert.Error](m); err != nil || !ok || e.Code != convert.NotAuthorized || len(m.TLVs) != 1 {
			t.Errorf("answer %+v, %v", m, err)
		}
		if n := s.Stats.Panics.Load(); n != 0 {
			t.Errorf("%d panics", n)
		}
	})
}
