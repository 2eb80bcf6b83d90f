// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"braid/agent/config"
	"braid/agent/path"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

func TestMain(m *testing.M) { netns.Main(m) }

// The world is one loopback: the gateway's only WAN is home, and servers tell
// by the source address who asks them.
var (
	home   = netip.MustParseAddr("127.0.0.2")
	lte    = netip.MustParseAddr("127.0.0.4") // of a second WAN, where there is one
	abroad = netip.MustParseAddr("127.0.0.3") // where converters connect from
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lose has what an address sends to a server get lost, for the length of a test.
func lose(t *testing.T, from netip.Addr, to netip.AddrPort) {
	t.Helper()
	rules := fmt.Sprintf("table ip t { chain o { type filter hook output priority 0; ip saddr %v tcp dport %d drop; }; }", from, to.Port())
	if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("nft", "delete table ip t").Run() })
}

// server keeps what each connection sends to its end, and sends it back.
type server struct {
	at netip.AddrPort

	mu   sync.Mutex
	from []netip.Addr
	got  [][]byte
}

func serve(t *testing.T) *server {
	t.Helper()
	const address = "198.18.0.80" // Convert carries nobody to a loopback address
	if out, err := exec.Command("ip", "addr", "replace", address, "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp4", address+":0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	s := &server{at: netip.MustParseAddrPort(l.Addr().String())}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err != nil {
					return // an attempt that was not the first
				}
				s.mu.Lock()
				s.from = append(s.from, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
				s.got = append(s.got, b)
				s.mu.Unlock()
				c.Write(b)
			}()
		}
	}()
	return s
}

// served says whom the server has served, and forgets.
func (s *server) served() (from []netip.Addr, got [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, got, s.from, s.got = s.from, s.got, nil, nil
	return from, got
}

// answering is what a converter does with a connection whose request it has read.
type answering func(t *testing.T, c *mptcp.Conn, to netip.AddrPort)

// refuse answers with an error, and lets the client close.
func refuse(e convert.Error) answering {
	return func(t *testing.T, c *mptcp.Conn, _ netip.AddrPort) {
		say(t, c, convert.Reply(e))
		io.Copy(io.Discard, c)
	}
}

// forward connects after a while.
func forward(after time.Duration) answering {
	return func(t *testing.T, c *mptcp.Conn, to netip.AddrPort) {
		time.Sleep(after)
		var d mptcp.Dialer
		s, err := d.Dial(context.Background(), abroad, to, nil)
		if err != nil {
			t.Error(err)
			return
		}
		say(t, c, convert.Reply(convert.ExtendedTCPHeader{}))
		p := relay.Pair{A: c, B: s}
		p.Run()
	}
}

// say waits for the third ACK of the handshake, without which nothing is sent.
func say(t *testing.T, c *mptcp.Conn, m convert.Message) {
	b, err := m.Append(nil)
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if c.WaitEstablished(ctx, time.Minute) == nil {
		c.Write(b)
	}
}

// silent reads on without a word, and leaves without a word too.
func silent(_ *testing.T, c *mptcp.Conn, _ netip.AddrPort) { io.Copy(io.Discard, c) }
func leave(*testing.T, *mptcp.Conn, netip.AddrPort)        {}

// converter is a converter; asked counts the connections it was asked for.
func converter(t *testing.T, name string, does answering) (c path.Converter, asked *atomic.Int32) {
	t.Helper()
	l, err := mptcp.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.10:0"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	asked = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				m, err := convert.Read(c)
				if err != nil {
					return
				}
				to, _ := convert.Find[convert.Connect](m)
				asked.Add(1)
				does(t, c, to.Remote)
			}()
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	works := path.Answer{State: path.ConverterUp, MPTCP: true, At: time.Now()}
	return path.Converter{Name: name, Addrs: []netip.AddrPort{at}, State: path.ConverterUp, Answers: map[path.Way]path.Answer{
		{WAN: "fibre", Source: home, Peer: at}: works, {WAN: "lte", Source: lte, Peer: at}: works,
	}}, asked
}

// acceptor takes connections to one listener for connections to a server.
type acceptor struct {
	*mptcp.Listener
	dest netip.AddrPort
}

func (a acceptor) Serve(handle func(*mptcp.Conn, int)) error {
	for {
		c, err := a.Accept()
		if err != nil {
			return nil
		}
		c.Local = a.dest
		handle(c, 0)
	}
}

// house is a gateway whose LAN hosts dial lan to reach a server.
type house struct {
	*Proxy
	t   *testing.T
	lan string

	mu       sync.Mutex
	doubts   []error
	suspects []string // WANs
}

type houseOptions struct {
	dest       netip.AddrPort
	wanted     config.Path // auto
	fallback   config.Fallback
	converters []path.Converter
}

// idle waits until no connection is open.
func (h *house) idle() {
	h.t.Helper()
	for end := time.Now().Add(5 * time.Second); h.Open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%d connections are still open", h.Open())
		}
	}
}

func newHouse(t *testing.T, o houseOptions) *house {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	tl, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	l, err := mptcp.NewListener(tl.(*net.TCPListener))
	must(t, err)
	if o.wanted == "" {
		o.wanted = config.PathAuto
	}
	if o.fallback == "" {
		o.fallback = config.FallbackDirect
	}
	log := journal.New(t.Output())
	h := &house{t: t, lan: l.Addr().String(), Proxy: &Proxy{Log: log, Guard: &guard.Guard{Log: log}, Memory: new(path.Memory)}}
	h.Wanted = func(int) config.Path { return o.wanted }
	h.Missed = func() {}
	h.Doubt = func(_ string, w path.Way, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.doubts = append(h.doubts, err)
		h.suspects = append(h.suspects, w.WAN)
	}
	h.SetNetwork(path.New([]path.Leg{{WAN: "fibre", Source: home}}, o.converters, o.fallback))
	ctx, cancel := context.WithCancel(context.Background())
	doneC := make(chan error)
	go func() { doneC <- h.Run(ctx, acceptor{l, o.dest}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-doneC; err != nil {
			t.Error(err)
		}
	})
	return h
}

// ask sends a request and reads the answer to its end.
func (h *house) ask(request []byte) ([]byte, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(h.t.Context(), "tcp", h.lan)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(25 * time.Second))
	go func() {
		c.Write(request)
		c.(*net.TCPConn).CloseWrite()
	}()
	return io.ReadAll(c)
}

// faults are the verdicts on the server.
func (h *house) faults(server netip.AddrPort) (fs []path.Fault) {
	for _, v := range h.Memory.Verdicts(server.Addr(), h.Network().Converters) {
		fs = append(fs, v.Fault)
	}
	return fs
}

func (h *house) doubted(want error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.doubts, func(err error) bool { return err.Error() == want.Error() })
}

var request = []byte("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n")

// A converter that fails at a server which answers the house is left out, for
// this connection and for the next ones; the LAN notices nothing.
func TestVerdict(t *testing.T) {
	code := func(c convert.ErrorCode, value ...byte) convert.Error { return convert.Error{Code: c, Value: value} }
	for _, tt := range []struct {
		name   string
		does   answering
		fault  path.Fault // none: it is about the converter
		doubt  error
		within time.Duration
	}{
		{"it is refused", refuse(code(convert.ConnectionReset)), path.FaultRefused, nil, time.Second},
		{"it has no route", refuse(code(convert.DestinationUnreachable, convert.NoRoute)), path.FaultNoRoute, code(convert.DestinationUnreachable, convert.NoRoute), time.Second},
		{"it is prohibited", refuse(code(convert.DestinationUnreachable, 13)), path.FaultUnreachable, nil, time.Second},
		{"it may not", refuse(code(convert.NotAuthorized)), path.FaultProhibited, code(convert.NotAuthorized), time.Second},
		{"it gives up", refuse(code(convert.NetworkFailure, 0)), path.FaultSilent, nil, time.Second},
		{"it says nothing", silent, path.FaultSilent, errSilent, 2 * time.Second},
		{"it is full", refuse(code(convert.ResourceExceeded, 1)), path.FaultNone, code(convert.ResourceExceeded, 1), time.Second},
		{"it does not know the option", refuse(code(convert.UnsupportedTCPOption, 30)), path.FaultNone, code(convert.UnsupportedTCPOption, 30), time.Second},
		{"it leaves", leave, path.FaultNone, nil, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			c, asked := converter(t, "mcp", tt.does)
			h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
			began := time.Now()
			got, err := h.ask(request)
			if took := time.Since(began); err != nil || !bytes.Equal(got, request) || took > tt.within {
				t.Errorf("%q, %v after %v", got, err, took)
			}
			if from, _ := s.served(); !slices.Equal(from, []netip.Addr{home}) {
				t.Errorf("the server has served %v", from)
			}
			if d, c := h.stats.Direct.Load(), h.stats.Convert.Load(); d != 1 || c != 0 {
				t.Errorf("%d direct, %d converted", d, c)
			}
			if tt.doubt != nil && !h.doubted(tt.doubt) {
				t.Errorf("doubts: %v", h.doubts)
			}
			if tt.fault == path.FaultNone {
				if f := h.faults(s.at); len(f) != 0 {
					t.Errorf("verdicts %v", f)
				}
				return
			}
			if f := h.faults(s.at); !slices.Equal(f, []path.Fault{tt.fault}) {
				t.Errorf("verdicts %v, want %v", f, tt.fault)
			}
			for range 5 {
				began := time.Now()
				got, err := h.ask(request)
				if took := time.Since(began); err != nil || !bytes.Equal(got, request) || took > time.Second {
					t.Errorf("later: %q, %v after %v", got, err, took)
				}
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the converter was asked %d times", n)
			}
		})
	}
}

// Whatever a LAN host sends before it is known who answers reaches the server
// once and whole.
func TestOpening(t *testing.T) {
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	for _, tt := range []struct {
		name string
		does answering
		from netip.Addr
	}{
		{"the converter answers at once", forward(0), abroad},
		{"the converter answers late", forward(300 * time.Millisecond), abroad},
		{"the converter fails", refuse(convert.Error{Code: convert.ConnectionReset}), home},
		{"the converter says nothing", silent, home},
	} {
		for _, size := range []int{0, 1, openingStart, openingStart + 1, openingSize, openingSize + 1, len(data)} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, size), func(t *testing.T) {
				t.Parallel()
				s := serve(t)
				c, _ := converter(t, "mcp", tt.does)
				h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
				got, err := h.ask(data[:size])
				if err != nil || !bytes.Equal(got, data[:size]) {
					t.Errorf("%d bytes came back, %v", len(got), err)
				}
				from, sent := s.served()
				if len(from) != 1 || from[0] != tt.from || !bytes.Equal(sent[0], data[:size]) {
					t.Errorf("the server has served %v", from)
				}
				h.idle()
				if _, b := h.Carried(); b.Up != uint64(size) {
					t.Errorf("counted %d bytes", b.Up)
				}
			})
		}
	}
}

// Connections that have ended leave nothing running, whoever they were carried by.
func TestNothingLeft(t *testing.T) {
	answers, _ := converter(t, "answers", forward(0))
	says, _ := converter(t, "silent", silent)
	refuses, _ := converter(t, "refuses", refuse(convert.Error{Code: convert.ConnectionReset}))
	for _, tt := range []struct {
		name   string
		first  path.Converter
		wanted config.Path
		fails  bool
	}{
		{"converted", answers, config.PathConvert, false},
		{"straight", answers, config.PathDirect, false},
		{"straight, beside a converter that is silent", says, config.PathAuto, false},
		{"refused", refuses, config.PathConvert, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			h := newHouse(t, houseOptions{dest: s.at, wanted: tt.wanted, converters: []path.Converter{tt.first}})
			ask := func() {
				t.Helper()
				if answer, _ := h.ask(request); len(answer) == 0 != tt.fails {
					t.Fatalf("answer %q", answer)
				}
				h.idle()
			}
			ask()
			others := goleak.IgnoreCurrent()
			for range 5 {
				ask()
			}
			if err := goleak.Find(others); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that refuses everybody looks so to the LAN, and it is not the
// converter's fault.
func TestRefusedByAll(t *testing.T) {
	s := serve(t)
	closed := netip.AddrPortFrom(s.at.Addr(), 1)
	for name, does := range map[string]answering{
		"answered": refuse(convert.Error{Code: convert.ConnectionReset}),
		"silent":   silent, // to the converter, and refuses the house
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := converter(t, "mcp", does)
			h := newHouse(t, houseOptions{dest: closed, converters: []path.Converter{c}})
			began := time.Now()
			got, err := h.ask(request)
			if took := time.Since(began); !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 || took > 2*time.Second {
				t.Errorf("%q, %v after %v", got, err, took)
			}
			if _, err := h.reach(t.Context(), path.Flow{Dest: closed, Path: config.PathAuto}); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("to one that holds its SYN: %v", err)
			}
			if f := h.faults(closed); len(f) != 0 || h.stats.Failed.Load() != 1 {
				t.Errorf("verdicts %v, %d failed", f, h.stats.Failed.Load())
			}
		})
	}
}

// A server that is silent for the house too is silence, whatever the converter
// hears of it.
func TestSilentForAll(t *testing.T) {
	s := serve(t)
	c, _ := converter(t, "mcp", refuse(convert.Error{Code: convert.NetworkFailure, Value: []byte{0}}))
	lose(t, home, s.at)
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := h.reach(ctx, path.Flow{Dest: s.at, Path: config.PathAuto}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if f := h.faults(s.at); len(f) != 0 {
		t.Errorf("verdicts %v", f)
	}
}

// A rule that wants the converter, and a fallback that wants no direct
// connections, leave it the last word about servers that it has asked.
func TestLastWord(t *testing.T) {
	refused := convert.Error{Code: convert.ConnectionReset}
	lost := convert.Error{Code: convert.DestinationUnreachable, Value: []byte{convert.NoRoute}}
	for _, tt := range []struct {
		name     string
		wanted   config.Path
		fallback config.Fallback
		does     answering
		served   bool
	}{
		{"a rule, refused", config.PathConvert, config.FallbackDirect, refuse(refused), false},
		{"a rule, no route", config.PathConvert, config.FallbackDirect, refuse(lost), true},
		{"a rule, and it leaves", config.PathConvert, config.FallbackDirect, leave, true},
		{"a rule, and it is full", config.PathConvert, config.FallbackDirect, refuse(convert.RetryError(convert.ResourceExceeded, time.Second)), true},
		{"no direct, refused", config.PathAuto, config.FallbackReject, refuse(refused), false},
		{"no direct, no route", config.PathAuto, config.FallbackReject, refuse(lost), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			c, _ := converter(t, "mcp", tt.does)
			h := newHouse(t, houseOptions{dest: s.at, wanted: tt.wanted, fallback: tt.fallback, converters: []path.Converter{c}})
			got, err := h.ask(request)
			if tt.served && (err != nil || !bytes.Equal(got, request)) || !tt.served && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v", got, err)
			}
			if from, _ := s.served(); len(from) > 0 != tt.served {
				t.Errorf("the server has served %v", from)
			}
		})
	}
}

// A converter that waits for a slow server under a rule waits alone: the
// server gets one connection.
func TestSlowServerUnderRule(t *testing.T) {
	s := serve(t)
	c, asked := converter(t, "mcp", forward(2*time.Second))
	h := newHouse(t, houseOptions{dest: s.at, wanted: config.PathConvert, converters: []path.Converter{c}})
	n := h.Network()
	h.SetNetwork(path.New(append(n.Legs, path.Leg{WAN: "lte", Source: lte}), n.Converters, n.Fallback))
	got, err := h.ask(request)
	if err != nil || !bytes.Equal(got, request) || asked.Load() != 1 {
		t.Errorf("%q, %v, asked %d times", got, err, asked.Load())
	}
}

// A server that only the converter reaches, slowly, is reached by it.
func TestSlowServer(t *testing.T) {
	s := serve(t)
	c, _ := converter(t, "mcp", forward(2*time.Second))
	lose(t, home, s.at)
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	got, err := h.ask(request)
	if err != nil || !bytes.Equal(got, request) {
		t.Errorf("%q, %v", got, err)
	}
	if from, _ := s.served(); !slices.Equal(from, []netip.Addr{abroad}) || len(h.faults(s.at)) != 0 {
		t.Errorf("the server has served %v, verdicts %v", from, h.faults(s.at))
	}
}

// Another converter comes before no converter, where the first one answers.
func TestNextConverter(t *testing.T) {
	s := serve(t)
	first, asked := converter(t, "first", refuse(convert.Error{Code: convert.DestinationUnreachable, Value: []byte{convert.NoRoute}}))
	second, _ := converter(t, "second", forward(0))
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{first, second}})
	for range 3 {
		if got, err := h.ask(request); err != nil || !bytes.Equal(got, request) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if from, _ := s.served(); !slices.Equal(from, []netip.Addr{abroad, abroad, abroad}) || asked.Load() != 1 {
		t.Errorf("the server has served %v, the first converter was asked %d times", from, asked.Load())
	}
}

// What is held against a converter goes when it turns out not to serve us at
// all: that may have been the reason.
func TestConverterThatServesNobody(t *testing.T) {
	s := serve(t)
	c, asked := converter(t, "mcp", refuse(convert.Error{Code: convert.NotAuthorized}))
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	ask := func(state path.ConverterState, want int32) {
		t.Helper()
		now := c
		now.State = state
		h.SetNetwork(path.New(h.Network().Legs, []path.Converter{now}, h.Network().Fallback))
		h.idle() // beside an open connection the next takes the same way
		if got, err := h.ask(request); err != nil || !bytes.Equal(got, request) || asked.Load() != want {
			t.Errorf("%q, %v, asked %d times, want %d", got, err, asked.Load(), want)
		}
	}
	ask(path.ConverterUp, 1)
	ask(path.ConverterUp, 1)
	ask(path.ConverterRefused, 1)
	ask(path.ConverterUp, 2)
}

// A LAN host that gives up takes all attempts along.
func TestHostGivesUp(t *testing.T) {
	s := serve(t)
	var open atomic.Int32
	c, _ := converter(t, "mcp", func(t *testing.T, c *mptcp.Conn, to netip.AddrPort) {
		open.Add(1)
		silent(t, c, to)
		open.Add(-1)
	})
	lose(t, home, s.at)
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	var d net.Dialer
	d.SetMultipathTCP(false)
	lan, err := d.DialContext(t.Context(), "tcp", h.lan)
	must(t, err)
	_, err = lan.Write(request)
	must(t, err)
	wait := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	wait("the converter is not asked", func() bool { return open.Load() == 1 })
	netns.Reset(lan)
	wait("the attempts go on", func() bool { return open.Load() == 0 && h.Open() == 0 })
	if f := h.faults(s.at); len(f) != 0 {
		t.Errorf("verdicts %v", f)
	}
}

// Explanations of what is tried say who is to blame.
func TestNobodyToTry(t *testing.T) {
	h := newHouse(t, houseOptions{dest: netip.MustParseAddrPort("[2001:db8::80]:80")})
	if _, err := h.reach(t.Context(), path.Flow{Dest: netip.MustParseAddrPort("[2001:db8::80]:80"), Path: config.PathAuto}); err == nil || !strings.Contains(err.Error(), "no WAN") {
		t.Error(err)
	}
}
