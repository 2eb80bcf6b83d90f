// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/mptcp"
	"braid/transport/proof"
)

// serving starts a converter for one client, and returns the client. More is
// added to the configuration.
func serving(t *testing.T, m *manager, far string) *gateway {
	t.Helper()
	m.start()
	secret, _ := hex.DecodeString(shared)
	g := &gateway{proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	return g
}

const oneClient = "[[client]]\nname = \"a\"\nkey = \"" + shared + "\"\n"

// What a client has open ends with its time.
func TestExpiry(t *testing.T) {
	p := newPlace(t, "metrics = \"\"\n"+oneClient)
	far := echo(t)
	m := p.manage()
	g := serving(t, m, far)
	open, err := g.open(t.Context(), far)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ends := time.Now().Add(2 * time.Second)
	text := "metrics = \"\"\n" + oneClient + "expires = " + ends.UTC().Format(time.RFC3339Nano) + "\n"
	if err := os.WriteFile(p.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.signal(syscall.SIGHUP)
	m.wait("it holds", func() bool { c := status(t, p).Clients[0]; return c.Expires != nil })
	_, err = open.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) || time.Now().Before(ends) {
		t.Errorf("it ended with %v, %v after its time", err, time.Since(ends))
	}
	m.wait("nothing of it is left", func() bool { return status(t, p).Connections == 0 })
}

// Who has the address of the metrics takes no files that clients need.
func TestMetricsFlood(t *testing.T) {
	p := newPlace(t, "metrics = \"127.0.0.1:9124\"\n"+oneClient)
	far := echo(t)
	m := p.manage()
	g := serving(t, m, far)
	m.wait("metrics are served", func() bool {
		r, err := http.Get("http://127.0.0.1:9124/metrics")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	http.DefaultClient.CloseIdleConnections()
	before := m.usage()
	const many, most = 500, 64
	var answered int
	for range many {
		c, err := net.Dial("tcp", "127.0.0.1:9124")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && r.StatusCode == http.StatusOK {
			answered++
		}
	}
	if after := m.usage(); after.files > before.files+most || answered == 0 || answered == many {
		t.Errorf("%d idle connections for metrics, of which %d were answered, take %d files", many, answered, after.files-before.files)
	}
	if err := g.once(t.Context(), far); err != nil {
		t.Error(err)
	}
}

// Where files are few, strangers give way to clients, who are told when they have
// all that there are.
func TestFewFiles(t *testing.T) {
	const files = 800 // of which 256 are kept back
	p := newPlace(t, "metrics = \"\"\n"+oneClient)
	far := echo(t)
	m := p.manage()
	m.limit = files
	g := serving(t, m, far)
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range 2 * files {
		fd, err := stranger(8, i*10, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	m.wait("they were there", func() bool { return status(t, p).Accepted > 2*files })
	var open []*mptcp.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range (files - 256) / 2 {
		c, err := g.open(t.Context(), far)
		if err != nil {
			t.Fatalf("beside strangers, with %d connections of clients: %v", len(open), err)
		}
		open = append(open, c)
	}
	if _, err := g.open(t.Context(), far); err == nil {
		t.Errorf("%d connections of %d files", len(open)+1, files)
	}
	if st := status(t, p); st.Strangers > 64 || m.usage().files > files {
		t.Errorf("%d strangers beside all clients, %d files", st.Strangers, m.usage().files)
	}
	open[0].Close()
	m.wait("there is room", func() bool {
		c, err := g.open(t.Context(), far)
		if err == nil {
			open = append(open, c)
		}
		return err == nil
	})
}

// A stranger has one subflow: more would have as much of the kernel's memory each.
func TestJoinedStrangers(t *testing.T) {
	p := newPlace(t, "metrics = \"\"\n"+oneClient)
	far := echo(t)
	m := p.manage()
	g := serving(t, m, far)
	sh(t, "", "ip", "addr", "add", "127.0.8.8/8", "dev", "lo")
	sh(t, "", "ip", "mptcp", "endpoint", "add", "127.0.8.8", "id", "98", "subflow")
	defer sh(t, "", "ip", "addr", "del", "127.0.8.8/8", "dev", "lo")
	defer sh(t, "", "ip", "mptcp", "endpoint", "del", "id", "98")
	mine, err := g.open(t.Context(), far)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	joined := func(c *mptcp.Conn) bool { in, err := c.Info(); return err == nil && in.Subflows > 0 }
	m.wait("the client has joined", func() bool { return joined(mine) })
	const strangers = 20
	var conns []*mptcp.Conn
	for range strangers {
		c, err := g.dialer.Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(address), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		if _, err := c.Write([]byte{1}); err != nil { // of a request, of which the rest does not come
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(5 * time.Second)) // before it is late with its request
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("a stranger with two subflows: %v", err)
		}
	}
	if st := status(t, p); st.Shed < strangers {
		t.Errorf("%d were shed", st.Shed)
	}
	if _, err := mine.Write([]byte("x")); err != nil || !joined(mine) {
		t.Errorf("the client: %v", err)
	}
}

// Joins with tokens that somebody has guessed are refused by the kernel: the
// converter does not hear of them, and clients do not wait behind them.
func TestGuessedJoins(t *testing.T) {
	p := newPlace(t, "metrics = \"\"\n"+oneClient)
	far := echo(t)
	m := p.manage()
	g := serving(t, m, far)
	mine, err := g.open(t.Context(), far)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	at := netip.MustParseAddrPort(address)
	accepted, refused, memory := status(t, p).Accepted, noToken(t), m.usage().memory
	const joins = 20000
	for i := range joins {
		from := netip.AddrFrom4([4]byte{127, 8, 1, byte(1 + i%250)})
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, joinSYN(netip.AddrPortFrom(from, uint16(1024+i%60000)), at), 0, &unix.SockaddrInet4{Addr: at.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if i%(joins/10) == 0 {
			began := time.Now()
			if err := g.once(t.Context(), far); err != nil || time.Since(began) > 5*time.Second {
				t.Errorf("beside %d joins, after %v: %v", i, time.Since(began), err)
			}
		}
	}
	if n := noToken(t) - refused; n < joins {
		t.Errorf("the kernel has found no token %d times", n)
	}
	if st := status(t, p); st.Accepted-accepted > 12 {
		t.Errorf("%d connections were accepted", st.Accepted-accepted)
	}
	if grown := m.usage().memory - memory; grown > raceMemory*8<<20 {
		t.Errorf("the program has grown by %d bytes", grown)
	}
	if in, err := mine.Info(); err != nil || in.Subflows != 0 {
		t.Errorf("the client has %d further subflows, %v", in.Subflows, err)
	}
}

// joinSYN is a SYN with MP_JOIN (RFC 8684 section 3.2) and a random token.
func joinSYN(from, to netip.AddrPort) []byte {
	b := make([]byte, 20+12)
	b[0], b[1] = byte(from.Port()>>8), byte(from.Port())
	b[2], b[3] = byte(to.Port()>>8), byte(to.Port())
	b[7] = byte(rand.Uint32())
	b[12], b[13] = byte(len(b)/4)<<4, 0x02
	b[14] = 0xff // window
	b[20], b[21], b[22], b[23] = 30, 12, 1<<4, 1
	for i := 24; i < 32; i++ { // token, nonce
		b[i] = byte(rand.Uint32())
	}
	// The pseudo header (RFC 9293 section 3.1).
	var sum uint32
	f, d := from.Addr().As4(), to.Addr().As4()
	for _, part := range [][]byte{f[:], d[:], {0, unix.IPPROTO_TCP, 0, byte(len(b))}, b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[16], b[17] = byte(^sum>>8), byte(^sum)
	return b
}

// noToken is how many joins the kernel has refused for a token that is nobody's.
func noToken(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[0] != "MPTcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		n, err := strconv.Atoi(f[slices.Index(names, "MPJoinNoTokenFound")])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("the kernel counts nothing of MPTCP")
	return 0
}
