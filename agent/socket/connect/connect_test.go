// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	netnsapi "github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"braid/test/link"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

const port = 5124

// line leads from the device near here to far, which is in a namespace of its
// own and listens on port.
type line struct {
	*link.Link
	listener *net.TCPListener
	farC     chan func() // what is to be done in that namespace
}

// families are the two ends' addresses.
var families = []struct{ near, far netip.Addr }{
	{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.1")},
	{netip.MustParseAddr("2001:db8:f::2"), netip.MustParseAddr("2001:db8:f::1")},
}

// newLine makes packets take a time each way.
func newLine(t *testing.T, delay time.Duration) line {
	t.Helper()
	near, err := link.Open("near")
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "ip addr add 198.51.100.2/24 dev near; ip addr add 2001:db8:f::2/64 dev near nodad; ip link set near up")
	l := line{farC: make(chan func())}
	t.Cleanup(func() { close(l.farC) })
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		for f := range l.farC {
			f()
		}
	}()
	var far *link.End
	l.there(t, func() error {
		ns, err := netnsapi.New()
		if err != nil {
			return err
		}
		defer ns.Close()
		if far, err = link.Open("far"); err != nil {
			return err
		}
		return run("ip link set lo up; ip addr add 198.51.100.1/24 dev far; ip addr add 2001:db8:f::1/64 dev far nodad; ip link set far up")
	})
	l.there(t, func() error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			l.listener = listener.(*net.TCPListener)
		}
		return err
	})
	t.Cleanup(func() { l.listener.Close() })
	if l.Link, err = link.New(near, far, link.Spec{Delay: delay}, link.Spec{Delay: delay}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// there does something in the far namespace.
func (l line) there(t *testing.T, f func() error) {
	t.Helper()
	errC := make(chan error)
	l.farC <- func() { errC <- f() }
	if err := <-errC; err != nil {
		t.Fatal(err)
	}
}

func run(script string) error {
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func open(t *testing.T, source netip.Addr) *Conn {
	t.Helper()
	c := New("near", source)
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c *Conn, to netip.Addr, port uint16, seq uint16) {
	t.Helper()
	if err := c.Send(netip.AddrPortFrom(to, port), seq); err != nil {
		t.Fatal(err)
	}
}

// next waits for an answer.
func next(t *testing.T, c *Conn) answer {
	t.Helper()
	select {
	case a := <-c.answerC:
		return a
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
		return answer{}
	}
}

// expect waits for an answer to seq.
func expect(t *testing.T, c *Conn, seq uint16, from netip.Addr) {
	t.Helper()
	if a := next(t, c); a != (answer{seq, from}) {
		t.Errorf("%+v, want the answer to %d from %v", a, seq, from)
	}
}

// nothing waits until all questions are over and fails if one was answered.
func nothing(t *testing.T, c *Conn) {
	t.Helper()
	c.asking.Wait()
	select {
	case a := <-c.answerC:
		t.Errorf("%+v", a)
	default:
	}
}

// A port that is open answers, and who listens never hears of it. It costs what
// it is said to.
func TestAnswers(t *testing.T) {
	l := newLine(t, 0)
	for i, f := range families {
		t.Run(f.far.String(), func(t *testing.T) {
			sh(t, "nft 'table inet count { chain i { type filter hook input priority 0; meta l4proto tcp counter; }; chain o { type filter hook output priority 0; meta l4proto tcp counter; }; }'")
			defer sh(t, "nft delete table inet count")
			c := New("near", f.near)
			send(t, c, f.far, port, 65535)
			expect(t, c, 65535, f.far)
			c.Close()
			syn, all := SYN4, Size4
			if i == 1 {
				syn, all = SYN6, Size6
			}
			in, out := fmt.Sprintf("packets 1 bytes %d", syn), fmt.Sprintf("packets 2 bytes %d", all-syn)
			if seen := sh(t, "nft list table inet count"); !strings.Contains(seen, in) || !strings.Contains(seen, out) {
				t.Errorf("want %s in and %s out, seen\n%s", in, out, seen)
			}
		})
	}
	l.listener.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if c, err := l.listener.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("accepted %v, %v", c, err)
	}
}

// A refusal may come from anywhere on the way, whatever it is made of, and
// silence is no answer.
func TestNoAnswer(t *testing.T) {
	l := newLine(t, 0)
	for _, verdict := range []string{"reject", "reject with tcp reset", "drop"} { // the first by a port unreachable
		t.Run(verdict, func(t *testing.T) {
			l.there(t, func() error {
				return run("nft 'table inet t { chain i { type filter hook input priority 0; meta l4proto tcp " + verdict + "; }; }'")
			})
			defer l.there(t, func() error { return run("nft delete table inet t") })
			for _, f := range families {
				c := open(t, f.near)
				start := time.Now()
				send(t, c, f.far, port, 1)
				nothing(t, c)
				if took := time.Since(start); (took < resent) != (verdict != "drop") {
					t.Errorf("%v: over after %v", f.far, took)
				}
			}
		})
	}
}

// An answer may take longer than the kernel waits for it.
func TestSlow(t *testing.T) {
	const rtt = 1300 * time.Millisecond
	newLine(t, rtt/2)
	for _, f := range families {
		c := open(t, f.near)
		start := time.Now()
		send(t, c, f.far, port, 1)
		expect(t, c, 1, f.far)
		if took := time.Since(start); took < rtt || took > rtt+200*time.Millisecond {
			t.Errorf("%v: answered after %v", f.far, took)
		}
	}
}

// That the second SYN is answered does not make an answer to the first.
func TestLost(t *testing.T) {
	l := newLine(t, 0)
	for _, f := range families {
		l.Blackhole(true)
		c := open(t, f.near)
		start := time.Now()
		send(t, c, f.far, port, 1)
		time.Sleep(resent / 2)
		l.Blackhole(false)
		nothing(t, c)
		if took := time.Since(start); took < resent || took > resent*3/2 {
			t.Errorf("%v: over after %v", f.far, took)
		}
	}
}

// A black hole ties up no more than maxPending sockets, and the latest
// question is among those that are open.
func TestPending(t *testing.T) {
	newLine(t, 200*time.Millisecond)
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	c := open(t, families[0].near)
	before := fds()
	const last = 5 * maxPending
	for seq := range uint16(last) {
		send(t, c, families[0].far, port, seq)
	}
	if n := fds() - before; n > maxPending+2 { // some may be closed just now
		t.Errorf("%d descriptors for %d questions", n, last)
	}
	got := make(map[uint16]bool)
	for range maxPending {
		got[next(t, c).seq] = true
	}
	for seq := uint16(last - maxPending); seq < last; seq++ {
		if !got[seq] {
			t.Errorf("no answer to %d", seq)
		}
	}
	nothing(t, c)
}

// Close ends what waits, with questions open and an answer nobody has taken.
func TestClose(t *testing.T) {
	l := newLine(t, 0)
	leaks := goleak.IgnoreCurrent()
	c := New("near", families[0].near)
	for seq := range uint16(maxPending) {
		send(t, c, families[0].far, port, seq)
	}
	c.asking.Wait() // answered, and answerC is full
	send(t, c, families[0].far, port, 0)
	l.Blackhole(true)
	send(t, c, families[0].far, port, 0)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for range maxPending + 2 { // what was answered before may still come
		if _, _, err := c.Receive(); errors.Is(err, net.ErrClosed) {
			goleak.VerifyNone(t, leaks)
			return
		}
	}
	t.Error("Receive does not end")
}

// What keeps a question from being asked is told, and is no answer.
func TestErrors(t *testing.T) {
	newLine(t, 0)
	tests := []struct{ name, device, source, to, want string }{
		{"no device", "none", "198.51.100.2", "198.51.100.1", "no such device"},
		{"no device, IPv6", "none", "2001:db8:f::2", "2001:db8:f::1", "no such device"},
		{"no address", "near", "192.0.2.1", "198.51.100.1", "cannot assign requested address"},
		{"no route", "near", "2001:db8:f::2", "2001:db8:10::10", "network is unreachable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(tt.device, netip.MustParseAddr(tt.source))
			defer c.Close()
			to := netip.AddrPortFrom(netip.MustParseAddr(tt.to), port)
			want := fmt.Sprintf("probing %v over %s: %s", to, tt.device, tt.want)
			if err := c.Send(to, 1); err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			nothing(t, c)
		})
	}
}
