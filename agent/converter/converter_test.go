// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

func TestMain(m *testing.M) { netns.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers each message with another on the loopback.
func serve(t *testing.T, with ...convert.TLV) netip.AddrPort {
	t.Helper()
	return answer(t, func(convert.Message) convert.Message { return convert.Reply(with...) })
}

// answer is a converter that answers as told.
func answer(t *testing.T, with func(convert.Message) convert.Message) netip.AddrPort {
	t.Helper()
	l, err := mptcp.Listen(t.Context(), netip.MustParseAddrPort("[::]:0"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
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
				b, err := with(m).Append(nil)
				if err != nil {
					t.Error(err)
				}
				c.Write(b)
			}()
		}
	}()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(l.Addr().String()).Port())
}

// The sources play WANs; what the dead one sends gets lost.
var (
	alive  = netip.MustParseAddr("127.0.0.2")
	dead   = netip.MustParseAddr("127.0.0.3")
	serves = convert.SupportedTCPExtensions{Kinds: []byte{convert.KindMPTCP}}
)

var errTest = errors.New("a connection could not be made")

func way(wan string, source netip.Addr, at netip.AddrPort) Way {
	return Way{Way: path.Way{WAN: wan, Source: source, Peer: at}}
}

// run runs a monitor of one converter to the end of the test.
func run(t *testing.T, at netip.AddrPort) *Monitor {
	t.Helper()
	m := start(t)
	m.SetTargets([]Target{{Name: "mcp", Ways: []Way{way("fibre", alive, at)}}})
	return m
}

// becomes waits for a status, and tells how long that took.
func becomes(t *testing.T, m *Monitor, check func(Status) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !check(m.Status()["mcp"]) {
		select {
		case <-m.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("it is still %+v", m.Status()["mcp"])
		}
	}
	return time.Since(began)
}

func state(s path.ConverterState) func(Status) bool {
	return func(x Status) bool { return x.State == s }
}

// A converter tells which families it reaches, unless it does not know the
// question: then it is asked once more without, and from there on at once.
func TestFamilies(t *testing.T) {
	asked := make(chan bool, 100)
	noting := func(answer func(knows bool) convert.Message) func(convert.Message) convert.Message {
		return func(m convert.Message) convert.Message {
			_, ok := convert.Find[convert.Families](m)
			asked <- ok
			return answer(ok)
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(knows bool) convert.Message
		v4, v6 path.Tri
		asked  []bool // with Families
	}{
		{"new", func(bool) convert.Message { return convert.Reply(serves, convert.Families{IPv4: true}) }, path.Yes, path.No, []bool{true, true}},
		{"old", func(asks bool) convert.Message {
			if asks {
				return convert.Reply(convert.Error{Code: convert.UnsupportedMessage, Value: []byte{0}})
			}
			return convert.Reply(serves)
		}, path.Unknown, path.Unknown, []bool{true, false, false}},
		{"old, and a stranger until it has read the cookie", func(asks bool) convert.Message {
			if asks {
				return convert.Reply(convert.Error{Code: convert.NotAuthorized})
			}
			return convert.Reply(serves)
		}, path.Unknown, path.Unknown, []bool{true, false, false}},
		{"silent about it", func(bool) convert.Message { return convert.Reply(serves) }, path.Unknown, path.Unknown, []bool{true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := run(t, answer(t, noting(tt.answer)))
			becomes(t, m, state(path.ConverterUp))
			doubt(m, errTest)
			for i, want := range tt.asked {
				if got := <-asked; got != want {
					t.Errorf("question %d asked for families: %v", i, got)
				}
			}
			if s := m.Status()["mcp"]; s.State != path.ConverterUp || s.IPv4 != tt.v4 || s.IPv6 != tt.v6 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// A converter that is full is left alone for as long as it wants, by what it
// says to a connection as well as to us, and is not taken for one that refuses.
func TestFull(t *testing.T) {
	var questions atomic.Int32
	busy := convert.RetryError(convert.ResourceExceeded, time.Second)
	m := run(t, answer(t, func(convert.Message) convert.Message {
		if questions.Add(1) == 3 {
			return convert.Reply(busy)
		}
		return convert.Reply(serves, convert.Families{IPv4: true, IPv6: true})
	}))
	becomes(t, m, state(path.ConverterUp))
	doubt(m, busy)
	becomes(t, m, state(path.ConverterFull))
	if n := questions.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if s := m.Status()["mcp"]; s.IPv6 != path.Yes || s.Err == nil {
		t.Errorf("status %+v", s)
	}
	if took := becomes(t, m, state(path.ConverterUp)); took < 900*time.Millisecond {
		t.Errorf("up again after %v", took)
	}
	doubt(m, errTest) // and says that it is full itself, soon after
	becomes(t, m, state(path.ConverterFull))
	if took := becomes(t, m, state(path.ConverterUp)); took < 1900*time.Millisecond {
		t.Errorf("up again after %v, want twice the delay", took)
	}
	if n := questions.Load(); n != 4 {
		t.Errorf("asked %d times", n)
	}
}

// Another program may listen at each address of a converter: one that is full, or
// refuses, is told apart from the others, and comes after them.
func TestAddresses(t *testing.T) {
	busy := convert.RetryError(convert.ResourceExceeded, time.Second)
	var says atomic.Pointer[convert.Error] // the first; nil: it serves
	first := answer(t, func(convert.Message) convert.Message {
		if e := says.Load(); e != nil {
			return convert.Reply(*e)
		}
		return convert.Reply(serves)
	})
	second := answer(t, func(convert.Message) convert.Message { return convert.Reply(serves) })
	m := start(t)
	ways := []Way{way("fibre", alive, first), way("fibre", alive, second)}
	m.SetTargets([]Target{{Name: "mcp", Ways: ways}})
	addresses := func(of ...path.ConverterState) func(Status) bool {
		return func(s Status) bool {
			return s.State == path.ConverterUp && s.Addresses[first].State == of[0] && s.Addresses[second].State == of[1]
		}
	}
	tried := func() netip.AddrPort {
		c := m.Known()["mcp"]
		c.Name, c.Addrs = "mcp", []netip.AddrPort{first, second}
		n := path.New([]path.Leg{{WAN: "fibre", Source: alive}}, []path.Converter{c}, config.FallbackDirect)
		return n.Converters[0].Ways[0].Peer
	}
	becomes(t, m, addresses(path.ConverterUp, path.ConverterUp))
	if at := tried(); at != first {
		t.Errorf("%v is tried first", at)
	}
	for _, e := range []convert.Error{busy, {Code: convert.NotAuthorized}} {
		says.Store(&e)
		m.Doubt("mcp", ways[0].Way, e)
		becomes(t, m, addresses(map[convert.ErrorCode]path.ConverterState{
			convert.ResourceExceeded: path.ConverterFull, convert.NotAuthorized: path.ConverterRefused}[e.Code], path.ConverterUp))
		if at := tried(); at != second {
			t.Errorf("%v: %v is tried first", e, at)
		}
		// It says so as long as it is so, and not now and then.
		for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if s := m.Status()["mcp"].Addresses[first]; s.State == path.ConverterUp {
				t.Fatalf("%v: it is %+v", e, s)
			}
		}
		says.Store(nil)
		becomes(t, m, addresses(path.ConverterUp, path.ConverterUp))
		if at := tried(); at != first {
			t.Errorf("after %v: %v is tried first", e, at)
		}
	}
	// All of them: then the converter is.
	says.Store(&busy)
	for _, w := range ways {
		m.Doubt("mcp", w.Way, busy)
	}
	becomes(t, m, state(path.ConverterFull))
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			if got := b.next(time.Second); got != want*time.Second {
				t.Errorf("%v, want %v s", got, int(want))
			}
			time.Sleep(b.lasted)
		}
		if got := b.next(200 * time.Second); got != 200*time.Second {
			t.Errorf("%v: less than it asks for", got)
		}
		time.Sleep(401 * time.Second)
		if got := b.next(time.Second); got != time.Second {
			t.Errorf("%v after a long time", got)
		}
	})
}

// doubt has the only way of the converter doubted.
func doubt(m *Monitor, why error) {
	for w := range m.Known()["mcp"].Answers {
		m.Doubt("mcp", w, why)
	}
}

// lose has what an address sends get lost until the end of the test, or until
// it is called.
func lose(t *testing.T, from netip.Addr, port uint16) (find func()) {
	t.Helper()
	table := fmt.Sprintf("t%d", port)
	rules := fmt.Sprintf("table ip %s { chain o { type filter hook output priority 0; ip saddr %v tcp dport %d drop; }; }", table, from, port)
	if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	find = func() { exec.Command("nft", "delete table ip "+table).Run() }
	t.Cleanup(find)
	return find
}

// proxy stands on a WAN: it takes a connection, and carries it on as plain TCP.
func proxy(t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				far, err := net.Dial("tcp4", to.String())
				if err != nil {
					return
				}
				defer far.Close()
				go io.Copy(far, c)
				io.Copy(c, far)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// portal answers every connection with a page.
func portal(t *testing.T) netip.AddrPort {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// Each way has a verdict of its own; the converter is as good as the best.
func TestWays(t *testing.T) {
	up, refusing := serve(t, serves), serve(t, convert.Error{Code: convert.NotAuthorized})
	nobody := netip.AddrPortFrom(up.Addr(), 1)
	lose(t, dead, up.Port())
	proxied, captive := proxy(t, up), portal(t)
	for _, tt := range []struct {
		name  string
		ways  []Way
		want  path.ConverterState
		each  string
		least time.Duration
	}{
		{"it answers", []Way{way("fibre", alive, up)}, path.ConverterUp, "fibre up", 0},
		{"it answers over both", []Way{way("fibre", alive, up), way("lte", alive, up)}, path.ConverterUp, "fibre up, lte up", 0},
		{"the first WAN is dead", []Way{way("fibre", dead, up), way("lte", alive, up)}, path.ConverterUp, "fibre down, lte up", askTimeout},
		{"all WANs are dead", []Way{way("fibre", dead, up), way("lte", dead, up)}, path.ConverterDown, "fibre down, lte down", askTimeout},
		{"nobody listens", []Way{way("fibre", alive, nobody), way("lte", alive, nobody)}, path.ConverterDown, "fibre down, lte down", 0},
		{"a portal takes all", []Way{way("fibre", alive, captive), way("lte", alive, up)}, path.ConverterUp, "fibre down, lte up", 0},
		{"a proxy strips MPTCP", []Way{way("fibre", alive, proxied), way("lte", alive, up)}, path.ConverterUp, "fibre up by TCP, lte up", 0},
		{"it refuses over one", []Way{way("fibre", alive, refusing), way("lte", alive, up)}, path.ConverterUp, "fibre refused, lte up", 0},
		{"it refuses over both", []Way{way("fibre", alive, refusing), way("lte", dead, up)}, path.ConverterRefused, "fibre refused, lte down", askTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			began := time.Now()
			m.SetTargets([]Target{{Name: "mcp", Ways: tt.ways}})
			until(t, m, func() string { return each(m, tt.ways) }, tt.each)
			if took := time.Since(began); took < tt.least {
				t.Errorf("known after %v", took)
			}
			if s := m.Status()["mcp"]; s.State != tt.want || (s.Err == nil) != (tt.want == path.ConverterUp) {
				t.Errorf("%v, %v, want %v", s.State, s.Err, tt.want)
			}
		})
	}
}

// start runs a monitor without targets to the end of the test.
func start(t *testing.T) *Monitor {
	t.Helper()
	m := NewMonitor(journal.New(t.Output()), new(mptcp.Dialer), new(proof.Wallet))
	ctx, cancel := context.WithCancel(context.Background())
	endedC := make(chan error)
	go func() { endedC <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-endedC; err != nil {
			t.Error(err)
		}
	})
	return m
}

// each writes what is known of ways.
func each(m *Monitor, ways []Way) string {
	var all []string
	for _, w := range ways {
		a := m.Known()["mcp"].Answers[w.Way]
		state := a.State.String()
		if a.State == path.ConverterUp && !a.MPTCP {
			state += " by TCP"
		}
		all = append(all, w.WAN+" "+state)
	}
	return strings.Join(all, ", ")
}

// until waits until something is as wanted, at every change.
func until(t *testing.T, m *Monitor, is func() string, want string) {
	t.Helper()
	end := time.After(20 * time.Second)
	for is() != want {
		select {
		case <-m.Changed():
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatalf("%s, want %s", is(), want)
		}
	}
}

// counting is a converter, and how often it has been asked.
func counting(t *testing.T) (netip.AddrPort, *atomic.Int32) {
	n := new(atomic.Int32)
	return answer(t, func(convert.Message) convert.Message {
		n.Add(1)
		return convert.Reply(serves)
	}), n
}

// A way in doubt is not known until it has answered, and what is known of the
// others stays, without asking them. One that does not answer has the others
// asked before it is blamed.
func TestDoubt(t *testing.T) {
	at, asked := counting(t)
	fibre, lte := way("fibre", netip.MustParseAddr("127.0.0.5"), at), way("lte", alive, at)
	ways := []Way{fibre, lte}
	m := start(t)
	m.SetTargets([]Target{{Name: "mcp", Ways: ways}})
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	before := asked.Load()
	m.Doubt("mcp", fibre.Way, errTest)
	if got := each(m, ways); got != "fibre unknown, lte up" {
		t.Errorf("in doubt: %s", got)
	}
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	if n := asked.Load() - before; n != 1 {
		t.Errorf("asked %d times", n)
	}
	m.Doubt("mcp", fibre.Way, convert.Error{Code: convert.NotAuthorized}) // it talks: what of is asked
	if got := each(m, ways); got != "fibre up, lte up" {
		t.Errorf("after its word: %s", got)
	}
	for asked.Load() < before+2 {
		time.Sleep(time.Millisecond)
	}

	find := lose(t, fibre.Source, at.Port())
	before = asked.Load()
	m.Doubt("mcp", fibre.Way, errTest)
	until(t, m, func() string { return each(m, ways) }, "fibre down, lte up")
	if n := asked.Load() - before; n != 1 {
		t.Errorf("over lte asked %d times", n)
	}
	if s := m.Status()["mcp"]; s.State != path.ConverterUp {
		t.Errorf("status %+v", s)
	}
	began := time.Now()
	find()
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("back after %v", took)
	}
	if n := asked.Load() - before; n != 2 {
		t.Errorf("asked %d times, lte as well", n)
	}
}

// A converter that is away is not known to be until it has been asked by all
// its ways, and is found by all when it is back. Connections go on to miss it.
func TestReturn(t *testing.T) {
	at, _ := counting(t)
	ways := []Way{way("fibre", netip.MustParseAddr("127.0.0.6"), at), way("lte", netip.MustParseAddr("127.0.0.6"), at)}
	m := start(t)
	m.SetTargets([]Target{{Name: "mcp", Ways: ways}})
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	find := lose(t, ways[0].Source, at.Port())
	m.Doubt("mcp", ways[0].Way, errTest)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		// So that one is always being asked when the other is given up.
		for wait := time.Second; ; wait = 200 * time.Millisecond {
			select {
			case <-ended:
				return
			case <-time.After(wait):
				m.Doubt("mcp", ways[0].Way, errTest)
				m.Doubt("mcp", ways[1].Way, errTest)
			}
		}
	}()
	until(t, m, func() string {
		got := each(m, ways)
		if got == "fibre down, lte up" {
			t.Fatalf("blamed the way: %s", got)
		}
		return got
	}, "fibre down, lte down")
	if s := m.Status()["mcp"]; s.State != path.ConverterDown || s.Err == nil {
		t.Errorf("status %+v", s)
	}
	began := time.Now()
	find()
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("back after %v", took)
	}
}

// A way on which MPTCP is taken out is asked again until it is not, as long as
// it arrives by another.
func TestProxyGoes(t *testing.T) {
	at, _ := counting(t)
	proxied := proxy(t, at)
	redirect := fmt.Sprintf("table ip r { chain o { type nat hook output priority -100; ip saddr 127.0.0.7 tcp dport %d redirect to :%d; }; }", at.Port(), proxied.Port())
	if out, err := exec.Command("nft", redirect).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	goes := func() { exec.Command("nft", "delete table ip r").Run() }
	t.Cleanup(goes)
	ways := []Way{way("fibre", netip.MustParseAddr("127.0.0.7"), at), way("lte", alive, at)}
	m := start(t)
	m.SetTargets([]Target{{Name: "mcp", Ways: ways}})
	until(t, m, func() string { return each(m, ways) }, "fibre up by TCP, lte up")
	time.Sleep(10 * time.Millisecond) // each knows now when it is to be asked again
	m.SetTargets([]Target{{Name: "mcp", Ways: []Way{ways[1], ways[0]}}})
	goes()
	began := time.Now()
	until(t, m, func() string { return each(m, ways) }, "fibre up, lte up")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("by MPTCP after %v", took)
	}
}

// A line may become metered, and cease to be, while its converter is asked over it.
func TestBecomesMetered(t *testing.T) {
	m := NewMonitor(journal.New(t.Output()), new(mptcp.Dialer), new(proof.Wallet))
	fibre, lte := way("fibre", alive, netip.AddrPort{}), way("lte", dead, netip.AddrPort{})
	for _, want := range []time.Duration{downInterval, spareInterval, downInterval} {
		lte.Metered = want == spareInterval
		m.SetTargets([]Target{{Name: "mcp", Ways: []Way{fibre, lte}}})
		m.mu.Lock()
		p := m.peers["mcp"]
		if got := p.least(p.askers[lte.Way]); got != want {
			t.Errorf("metered: %v: asked again after %v, not %v", lte.Metered, got, want)
		}
		m.mu.Unlock()
	}
}

// How often what fails is asked again, by how long it has, whether it costs, and
// whether somebody wants it.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMonitor(journal.New(t.Output()), new(mptcp.Dialer), new(proof.Wallet))
		fibre, lte := way("fibre", alive, netip.AddrPort{}), way("lte", dead, netip.AddrPort{})
		lte.Metered = true
		interval := func(failing time.Duration, missed bool, w Way, ways ...Way) time.Duration {
			down := path.Answer{State: path.ConverterDown}
			a := &asker{m: m, way: w.Way, answer: down, failing: time.Now().Add(-failing)}
			m.missed = time.Time{}
			if missed {
				m.missed = time.Now()
			}
			return m.intervalLocked(&peer{target: Target{Ways: ways}, status: Status{State: path.ConverterDown}}, a)
		}
		for _, tt := range []struct {
			name    string
			failing time.Duration
			missed  bool
			way     Way
			ways    []Way
			want    time.Duration
		}{
			{"at first", 75 * time.Second, false, fibre, []Way{fibre, lte}, downInterval},
			{"for an hour", time.Hour, false, fibre, []Way{fibre, lte}, 36 * time.Second},
			{"for a day", 24 * time.Hour, false, fibre, []Way{fibre, lte}, time.Minute},
			{"for a day, and it is wanted", 24 * time.Hour, true, fibre, []Way{fibre, lte}, downInterval},
			{"metered, beside another", time.Minute, true, lte, []Way{fibre, lte}, spareInterval},
			{"metered, alone", time.Minute, false, lte, []Way{lte}, downInterval},
			{"metered, alone for a week", 7 * 24 * time.Hour, false, lte, []Way{lte}, 10 * time.Minute},
			{"metered, alone for a week, and it is wanted", 7 * 24 * time.Hour, true, lte, []Way{lte}, downInterval},
		} {
			if got := interval(tt.failing, tt.missed, tt.way, tt.ways...); got != tt.want {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	})
}
