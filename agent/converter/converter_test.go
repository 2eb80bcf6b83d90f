// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
	l, err := mptcp.Listen(t.Context(), "[::]:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := mptcp.Accept(l)
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

// run runs a monitor of one converter to the end of the test.
func run(t *testing.T, at netip.AddrPort) *Monitor {
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
	m.SetTargets([]Target{{Name: "mcp", Ways: [2]Way{{alive, at}}}})
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
			m.Doubt("mcp", errTest)
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
	m.Doubt("mcp", busy)
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
	m.Doubt("mcp", errTest) // and says that it is full itself, soon after
	becomes(t, m, state(path.ConverterFull))
	if took := becomes(t, m, state(path.ConverterUp)); took < 1900*time.Millisecond {
		t.Errorf("up again after %v, want twice the delay", took)
	}
	if n := questions.Load(); n != 4 {
		t.Errorf("asked %d times", n)
	}
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

func TestMonitor(t *testing.T) {
	if out, err := exec.Command("nft", "table ip t { chain o { type filter hook output priority 0; ip saddr "+dead.String()+" drop; }; }").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("nft", "delete table ip t").Run() })
	up, refusing := serve(t, serves), serve(t, convert.Error{Code: convert.NotAuthorized})
	tests := []struct {
		name        string
		ways        [2]Way
		want        path.ConverterState
		least, most time.Duration
	}{
		{"it answers", [2]Way{{alive, up}}, path.ConverterUp, 0, patience},
		{"it answers over both", [2]Way{{alive, up}, {alive, up}}, path.ConverterUp, 0, patience},
		{"the first WAN is dead", [2]Way{{dead, up}, {alive, up}}, path.ConverterUp, patience, askTimeout},
		{"the second WAN is dead", [2]Way{{alive, up}, {dead, up}}, path.ConverterUp, 0, patience},
		{"all WANs are dead", [2]Way{{dead, up}, {dead, up}}, path.ConverterDown, askTimeout, askTimeout + time.Second},
		{"the only WAN is dead", [2]Way{{dead, up}}, path.ConverterDown, askTimeout, askTimeout + time.Second},
		{"nobody listens", [2]Way{{alive, netip.AddrPortFrom(up.Addr(), 1)}, {alive, netip.AddrPortFrom(up.Addr(), 1)}}, path.ConverterDown, 0, patience},
		{"it refuses", [2]Way{{alive, refusing}, {alive, up}}, path.ConverterRefused, 0, patience},
		{"it refuses over the second WAN", [2]Way{{dead, refusing}, {alive, refusing}}, path.ConverterRefused, askTimeout, askTimeout + time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMonitor(journal.New(t.Output()), new(mptcp.Dialer), new(proof.Wallet))
			ctx, cancel := context.WithCancel(t.Context())
			endedC := make(chan error)
			go func() { endedC <- m.Run(ctx) }()
			defer func() {
				cancel()
				must(t, <-endedC)
			}()
			began := time.Now()
			m.SetTargets([]Target{{Name: "mcp", Ways: tt.ways}})
			select {
			case <-m.Changed():
			case <-time.After(2 * askTimeout):
				t.Fatal("nothing has changed")
			}
			took := time.Since(began)
			if s := m.Status()["mcp"]; s.State != tt.want || (s.Err == nil) != (tt.want == path.ConverterUp) {
				t.Errorf("%v, %v, want %v", s.State, s.Err, tt.want)
			}
			if took < tt.least || took > tt.most {
				t.Errorf("known after %v, want %v to %v", took, tt.least, tt.most)
			}
			m.Doubt("mcp", errTest) // asks again, with the same result
			m.Doubt("nobody", errTest)
		})
	}
}
