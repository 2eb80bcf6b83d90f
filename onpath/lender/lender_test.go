// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lender

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/onpath/lend"
	"braid/onpath/nft"
	"braid/test/netns"
	"braid/transport/mptcp"
)

func TestMain(m *testing.M) { netns.Main(m) }

const mark = 0x2e000000

func rules(t *testing.T) {
	t.Helper()
	text := `table inet lender {` + lend.Rules("t", 5) + `
		chain raw { type filter hook output priority raw; meta mark 0x2e000000 notrack; }
		chain out { type filter hook output priority 0; oifname "far0" meta l4proto tcp goto outgoing; }
		chain outgoing { meta nfproto ipv4 goto t_up_ip; goto t_up_ip6; }
		chain in { type filter hook input priority 0; iifname "far0" meta l4proto tcp goto incoming; }
		chain incoming { meta nfproto ipv4 goto t_down_ip; goto t_down_ip6; }
	}`
	if _, err := nft.Run(t.Context(), text, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nft.Run(context.Background(), "", "delete", "table", "inet", "lender") })
}

// mib reads a counter of this namespace.
func mib(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k, n := range names {
			if n == name {
				v, err := strconv.Atoi(values[k])
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}

// lending is a lender, a connection of the kernel's that passes by it and over
// which something is said all the time, and what is seen of it.
type lending struct {
	*Lender
	conn  *mptcp.Conn
	peer  netip.AddrPort
	seenC chan lend.Seen
	doneC chan error
}

func begin(t *testing.T, lent lend.Address) *lending {
	t.Helper()
	server := netns.ListenFar(t, true)
	rules(t)
	if out, err := exec.Command("ip", "mptcp", "limits", "set", "subflows", "2", "add_addr_accepted", "2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	x := &lending{seenC: make(chan lend.Seen, 100), doneC: make(chan error)}
	var err error
	x.Lender, err = Open(Settings{
		Table: "inet lender", Name: "t", Group: 5, Mark: mark, Size: 100,
		Offer: func(*lend.Connection) []lend.Address { return []lend.Address{lent} },
		Event: func(s lend.Seen) { x.seenC <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { x.doneC <- x.Serve() }()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	x.peer = netip.MustParseAddrPort(server.Addr().String())
	x.conn, err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, x.peer, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		x.conn.Close()
	})
	go func() { // the server has to say something
		for b := []byte("again"); ; {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				x.conn.Write(b)
			}
		}
	}()
	go io.Copy(io.Discard, x.conn)
	return x
}

func (x *lending) await(t *testing.T, what lend.What) lend.Seen {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case s := <-x.seenC:
			if s.What == what {
				return s
			}
		case <-limit:
			t.Fatalf("not seen: %d; AddAddr %d, EchoAdd %d", what, mib(t, "AddAddr"), mib(t, "EchoAddTx"))
		}
	}
}

func (x *lending) end(t *testing.T) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := <-x.doneC; err != nil {
		t.Error(err)
	}
}

var lent = lend.Address{ID: 200, Addr: netip.MustParseAddrPort("198.18.0.81:0")}

// What has ended unseen is forgotten, by the filter too; what was known is known
// again, and told of an address that it joins.
func TestSweepAndRestore(t *testing.T) {
	x := begin(t, lent)
	c := x.await(t, lend.Joined).Connection
	x.await(t, lend.Left) // nobody listens there
	asked := mib(t, "TCPSYNChallenge")
	if err := x.Poke(c.First); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); mib(t, "TCPSYNChallenge") == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the client says nothing")
		}
	}
	var text []byte
	x.Do(func(*lend.Table) { text, _ = c.AppendText(nil) })
	known := func() int {
		out, err := nft.Run(t.Context(), "", "list", "set", "inet", "lender", "t_known_ip")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, "expires")
	}
	know := func(k lend.Knowledge) func(*lend.Connection, lend.Flow) lend.Knowledge {
		return func(*lend.Connection, lend.Flow) lend.Knowledge { return k }
	}
	x.Sweep(1, know(lend.Unknown)) // who knows nothing of it may not look at it
	x.Sweep(1, know(lend.Open))
	if n := known(); n != 1 {
		t.Fatalf("%d flows are known", n)
	}
	x.Sweep(1, know(lend.Unknown))
	if s := x.await(t, lend.Closed); s.Connection != c || known() != 0 {
		t.Errorf("%+v has ended, %d flows are known", s, known())
	}
	var again *lend.Connection
	err := x.Restore(append(text, '\n'), func(lend.Flow) bool { return true }, func(c *lend.Connection) { again = c })
	if err != nil || again == nil || again.First != c.First || known() != 1 {
		t.Fatalf("%+v is restored, %d flows are known: %v", again, known(), err)
	}
	x.Again(func(*lend.Connection) []lend.Address { return []lend.Address{lent} })
	if s := x.await(t, lend.Joined); s.Connection != again {
		t.Errorf("%+v has joined", s)
	}
	if err := x.Restore([]byte("what is this\n"), func(lend.Flow) bool { return true }, func(*lend.Connection) { t.Error("restored") }); err == nil {
		t.Error("it has read nonsense")
	}
	x.end(t)
}

// The kernel as the client of a connection hears of the address that is lent,
// says so, and joins it; when it is told again, it joins again.
func TestLend(t *testing.T) {
	refused := mib(t, "AddAddrDrop")
	heardBefore := mib(t, "AddAddr") + mib(t, "EchoAddTx")
	x := begin(t, lent)
	opened := x.await(t, lend.Opened)
	info, err := x.conn.Info()
	if err != nil || !x.conn.MPTCP {
		t.Fatalf("MPTCP %v, %v", x.conn.MPTCP, err)
	}
	if f := opened.Connection.First; f != (lend.Flow{Client: x.conn.Local, Server: x.peer}) || opened.Connection.Token == info.Token {
		t.Errorf("%+v of %v to %v", opened.Connection, x.conn.Local, x.peer)
	}
	heard := x.await(t, lend.Heard)
	if heard.ID != lent.ID {
		t.Errorf("heard of %d", heard.ID)
	}
	joined := x.await(t, lend.Joined)
	if joined.Flow.Server != netip.AddrPortFrom(lent.Addr.Addr(), x.peer.Port()) || joined.Connection != opened.Connection {
		t.Errorf("joined: %+v", joined)
	}
	if n := mib(t, "AddAddr") + mib(t, "EchoAddTx") - heardBefore; n != 2 {
		t.Errorf("%d counted", n)
	}
	// Nobody listens at the lent address: the join is refused.
	x.await(t, lend.Left)
	x.Again(func(c *lend.Connection) []lend.Address { return []lend.Address{lent} })
	x.await(t, lend.Heard)
	if n := mib(t, "AddAddrDrop") - refused; n != 0 {
		t.Errorf("%d announcements were dropped", n)
	}
	if told := x.Stats.Told.Load(); told != x.Stats.Heard.Load() || x.Stats.Heard.Load() != 2 || x.Stats.Connections.Load() != 1 {
		t.Errorf("%d announcements, %d heard, %d connections", told, x.Stats.Heard.Load(), x.Stats.Connections.Load())
	}
	if n := x.Stats.Packets.Load(); n > 20 {
		t.Errorf("%d packets were shown", n)
	}
	x.end(t)
}
