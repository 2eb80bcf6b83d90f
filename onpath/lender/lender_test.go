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

// The kernel as the client of a connection hears of the address that is lent,
// says so, and joins it; when it is told again, it joins again.
func TestLend(t *testing.T) {
	server := netns.ListenFar(t, true)
	rules(t)
	if out, err := exec.Command("ip", "mptcp", "limits", "set", "subflows", "2", "add_addr_accepted", "2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lent := lend.Address{ID: 200, Addr: netip.MustParseAddrPort("198.18.0.81:0")}
	seenC := make(chan lend.Seen, 100)
	l, err := Open(Settings{
		Table: "inet lender", Name: "t", Group: 5, Mark: mark, Size: 100,
		Offer: func(*lend.Connection) []lend.Address { return []lend.Address{lent} },
		Event: func(s lend.Seen) { seenC <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	doneC := make(chan error)
	go func() { doneC <- l.Serve() }()

	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	d := mptcp.Dialer{}
	peer := netip.MustParseAddrPort(server.Addr().String())
	c, err := d.Dial(t.Context(), netip.Addr{}, peer, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // the server has to say something
		for b := []byte("again"); ; {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				c.Write(b)
			}
		}
	}()
	go io.Copy(io.Discard, c)
	await := func(what lend.What) lend.Seen {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			select {
			case s := <-seenC:
				if s.What == what {
					return s
				}
			case <-limit:
				t.Fatalf("not seen: %d; AddAddr %d, EchoAdd %d", what, mib(t, "AddAddr"), mib(t, "EchoAddTx"))
			}
		}
	}
	opened := await(lend.Opened)
	info, err := c.Info()
	if err != nil || !c.MPTCP {
		t.Fatalf("MPTCP %v, %v", c.MPTCP, err)
	}
	if f := opened.Connection.First; f != (lend.Flow{Client: c.Local, Server: peer}) || opened.Connection.Token == info.Token {
		t.Errorf("%+v of %v to %v", opened.Connection, c.Local, peer)
	}
	heard := await(lend.Heard)
	if heard.ID != lent.ID {
		t.Errorf("heard of %d", heard.ID)
	}
	joined := await(lend.Joined)
	if joined.Flow.Server != netip.AddrPortFrom(lent.Addr.Addr(), peer.Port()) || joined.Connection != opened.Connection {
		t.Errorf("joined: %+v", joined)
	}
	if n := mib(t, "AddAddr") + mib(t, "EchoAddTx"); n != 2 {
		t.Errorf("%d counted", n)
	}
	// Nobody listens at the lent address: the join is refused.
	await(lend.Left)
	l.Again(func(c *lend.Connection) []lend.Address { return []lend.Address{lent} })
	await(lend.Heard)
	if n := mib(t, "AddAddrDrop"); n != 0 {
		t.Errorf("%d announcements were dropped", n)
	}
	if told := l.Stats.Told.Load(); told != l.Stats.Heard.Load() || l.Stats.Heard.Load() != 2 || l.Stats.Connections.Load() != 1 {
		t.Errorf("%d announcements, %d heard, %d connections", told, l.Stats.Heard.Load(), l.Stats.Connections.Load())
	}
	if n := l.Stats.Packets.Load(); n > 20 {
		t.Errorf("%d packets were shown", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}
