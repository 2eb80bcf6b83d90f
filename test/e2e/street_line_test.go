// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// A server that takes no joins at its own address (the C flag), as those behind a
// balancer say, is lent nothing: a join would come to another machine.
func TestOnPathCFlag(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	must(t, s.Server.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	before := s.count(onPathCounters...)
	transfer(t, s.Dial(mptcpPort), traffic.Download, 4e6)
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "client:MPTcpExtAddAddr": 0, "client:MPTcpExtMPJoinSynTx": 0, "box:MPTcpExtMPCapableSYNRX": 0})
	must(t, s.Server.Sysctl("net.mptcp.allow_join_initial_addr_port", "1"))
	stop := background(t, s.Dial(mptcpPort))
	s.joined(t, before, 1)
	stop()
}

// The second line dies, in silence, and comes back: the connections that are
// open get it again, forwarded and converted ones, though nobody tells the
// converter and the kernel does not join again by itself.
func TestOnPathLineReturns(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for _, port := range []uint16{mptcpPort, plainPort} {
		t.Run(fmt.Sprint(port), func(t *testing.T) {
			name := map[uint16]string{mptcpPort: "server:MPTcpExtMPJoinAckRx", plainPort: "box:MPTcpExtMPJoinAckRx"}[port]
			before := s.count(name)
			joins := func(n uint64) func() error {
				return func() error {
					if got := s.count(name)[name] - before[name]; got != n {
						return fmt.Errorf("%d joins, not %d", got, n)
					}
					return nil
				}
			}
			stop := background(t, s.Dial(port))
			eventually(t, 3*time.Second, joins(1))
			s.Link("lte").Blackhole(true)
			sh(t, s.Client, "ip mptcp endpoint del id 2") // as whoever looks after the line does
			time.Sleep(2 * time.Second)
			s.Link("lte").Blackhole(false)
			sh(t, s.Client, "ip mptcp endpoint add 2001:db8:c::2 dev lte id 2 subflow fullmesh")
			eventually(t, 10*time.Second, joins(2))
			from := s.received(t, "lte")
			eventually(t, 3*time.Second, func() error {
				if n := s.received(t, "lte") - from; n < 1e6 {
					return fmt.Errorf("%d bytes over the line that is back", n)
				}
				return nil
			})
			rep := stop()
			t.Log(rep)
			if rep.Stall > 1500*time.Millisecond*patience {
				t.Errorf("%v", rep)
			}
		})
	}
}

// A line that is not there when a connection begins is added when it comes, for
// clients that are known to have such lines.
func TestOnPathLearns(t *testing.T) {
	s := newStreet(t, strings.Replace(rig.OnPath, `"all"`, `"learned"`, 1))
	sh(t, s.Client, "ip -6 route del default")
	before := s.count(onPathCounters...)
	for range 3 { // of which the first is a trial
		transfer(t, s.Dial(mptcpPort), traffic.Download, 1e5)
	}
	s.grown(t, before, mib{"client:MPTcpExtAddAddr": 1, "server:MPTcpExtMPJoinSynRx": 0})
	must(t, s.MCP.Stop())
	must(t, s.Start(strings.Replace(rig.OnPath, `"all"`, `"learned"`, 1)))
	sh(t, s.Client, "ip -6 route add default via 2001:db8:c::1 dev lte")
	before = s.count(onPathCounters...)
	for i := range uint64(3) { // the first is a trial, and is taken
		stop := background(t, s.Dial(mptcpPort))
		s.joined(t, before, i+1)
		stop()
	}
	s.grown(t, before, mib{"client:MPTcpExtAddAddr": 3})
}

// Five hundred connections at once: each has both lines, the converter no socket,
// and what it remembers ends with them.
func TestOnPathMany(t *testing.T) {
	const many = 500
	s := newStreet(t, rig.OnPath)
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := s.Server.Listen(t.Context(), lc, "tcp", ":9000")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	before := s.count(onPathCounters...)
	conns := make([]*mptcp.Conn, many)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			err := s.Client.Do(func() (err error) {
				conns[i], err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(lab.Server4, 9000), nil)
				return err
			})
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			conns[i].SetDeadline(time.Now().Add(time.Minute))
			conns[i].Write([]byte("x"))
			if _, err := io.ReadFull(conns[i], make([]byte, 1)); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	// What is idle hears of the address when its server says something.
	const name = "server:MPTcpExtMPJoinAckRx"
	eventually(t, 10*time.Second, func() error {
		for _, c := range conns {
			c.Write([]byte("x"))
			io.ReadFull(c, make([]byte, 1))
		}
		if got := s.count(name)[name] - before[name]; got != many {
			return fmt.Errorf("%d of %d joins", got, many)
		}
		return nil
	})
	if open := s.sockets(t); open != "" {
		t.Errorf("the converter has sockets:\n%s", open)
	}
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": many, "client:MPTcpExtMPCapableFallbackSYNACK": 0, "box:MPTcpExtMPCapableSYNRX": 0})
	u, err := s.MCP.Usage()
	must(t, err)
	var st struct {
		OnPath struct{ Forwarded, Remembered, Announced, Joined, Shown int } `json:"on_path"`
	}
	eventually(t, 2*time.Second, func() error {
		out, err := s.ConverterStatus()
		must(t, err)
		must(t, json.Unmarshal(out, &st))
		if st.OnPath.Joined < many {
			return fmt.Errorf("seen: %+v", st.OnPath)
		}
		return nil
	})
	t.Logf("%v of CPU, %d bytes of memory for %d connections: %+v", u.CPU, u.Anonymous, many, st.OnPath)
	if p := st.OnPath; p.Forwarded != many || p.Remembered != many || p.Joined != many || p.Shown > 9*many {
		t.Errorf("the converter has seen %+v", p)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, 15*time.Second, func() error {
		var left []int
		for _, set := range []string{"lent_known_ip", "lent_known_ip6", "tokens"} {
			left = append(left, strings.Count(sh(t, s.Box, "nft list set inet braid_mcp "+set), "expires"))
		}
		if fmt.Sprint(left) != "[0 0 0]" {
			return fmt.Errorf("remembered in the filter's sets: %v", left)
		}
		return nil
	})
}

// known are the flows of forwarded connections that the converter remembers.
func (s *street) known(t *testing.T) (n int) {
	t.Helper()
	for _, set := range []string{"lent_known_ip", "lent_known_ip6"} {
		n += strings.Count(sh(t, s.Box, "nft list set inet braid_mcp "+set), "expires")
	}
	return n
}

// A client vanishes, without a word to anybody: what is remembered of its connection goes
// once connection tracking knows no more of it, and not before.
func TestOnPathForgets(t *testing.T) {
	const port = 9000
	s := newStreet(t, rig.OnPath)
	echoes(t, s.Server, port)
	before := s.count(onPathCounters...)
	var c *mptcp.Conn
	must(t, s.Client.Do(func() (err error) {
		c, err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), nil)
		return err
	}))
	defer c.Close()
	for range 4 { // until the address is heard of
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
		time.Sleep(300 * time.Millisecond)
	}
	s.joined(t, before, 1)
	time.Sleep(5 * time.Second) // it is asked for five times
	if n := s.known(t); n != 2 {
		t.Errorf("%d flows are remembered of a connection with two", n)
	}
	nft(t, s.Client, `table inet gone {
		chain in { type filter hook prerouting priority raw; drop; }
		chain out { type filter hook output priority raw; drop; }
	}`)
	sh(t, s.Box, "conntrack -D -p tcp -f ipv4; conntrack -D -p tcp -f ipv6")
	eventually(t, 10*time.Second, func() error {
		if n := s.known(t); n != 0 {
			return fmt.Errorf("%d flows are remembered", n)
		}
		return nil
	})
	if n := strings.Count(sh(t, s.Box, "nft list set inet braid_mcp tokens"), "expires"); n != 0 {
		t.Errorf("joins to %d connections are let through", n)
	}
}

// A box with a firewall, as docs/onpath.md says it is to be, that masquerades its
// clients.
func TestOnPathBehindFirewall(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	nft(t, s.Box, `table inet firewall {
		chain input {
			type filter hook input priority filter; policy drop;
			iifname "lo" accept
			icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
			ct state established,related accept
			meta mark & 0x3f000000 == 0x32000000 accept
			tcp dport 5125 accept
		}
		chain forward {
			type filter hook forward priority filter; policy drop;
			ct state invalid drop
			ct state established,related accept
			iifname "gw" oifname "core" accept
			oifname "braid64-*" accept
			iifname "braid64-*" accept
		}
		chain postrouting { type nat hook postrouting priority srcnat; oifname "core" ip saddr 198.51.100.0/24 masquerade; }
	}`)
	tcp := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		return s.Client.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, plainPort).String())
	}
	if p := identify(t, tcp); p.Remote.Addr().String() != "10.255.0.2" {
		t.Fatalf("it does not masquerade: %v", p.Remote)
	}
	before := s.count(onPathCounters...)
	for range 2 {
		s.shares(t, plainPort, 20e6, 0.3, 0.1)
	}
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 2, "box:MPTcpExtMPJoinAckRx": 2, "server:MPTcpExtMPCapableSYNRX": 0})
	s.shares(t, mptcpPort, 20e6, 0.3, 0.1)
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 3, "server:MPTcpExtMPJoinAckRx": 1})
}

// Data in the SYN (TCP Fast Open) arrives once, at servers of both kinds.
func TestOnPathSYNData(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	must(t, s.Client.Sysctl("net.ipv4.tcp_fastopen", "5"))    // also without a cookie
	must(t, s.Server.Sysctl("net.ipv4.tcp_fastopen", "1539")) // on all sockets, also without a cookie
	for _, tt := range []struct {
		name  string
		port  uint16
		mptcp bool
	}{{"MPTCP", 9001, true}, {"TCP", 9002, false}} {
		t.Run(tt.name, func(t *testing.T) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(tt.mptcp)
			l, err := s.Server.Listen(t.Context(), lc, "tcp", fmt.Sprintf(":%d", tt.port))
			must(t, err)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { io.Copy(c, c); c.Close() }()
				}
			}()
			for i := range 2 { // to a server that is not known, and to one that is
				before := s.count(append(onPathCounters, "client:TcpExtTCPFastOpenActive")...)
				var c *mptcp.Conn
				data := []byte(strings.Repeat("braid", 100))
				must(t, s.Client.Do(func() (err error) {
					c, err = new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(lab.Server4, tt.port), data)
					return err
				}))
				c.SetDeadline(time.Now().Add(20 * time.Second))
				// What a server writes before the third packet is there stays with it
				// until its next write (kernel 6.18), whoever forwards.
				more := []byte("!")
				if _, err := c.Write(more); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				data = append(data, more...)
				got := make([]byte, len(data))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != string(data) {
					t.Errorf("connection %d: %q, %v", i, got, err)
				}
				c.CloseWrite()
				if n, err := c.Read(got); err != io.EOF {
					t.Errorf("connection %d: %d bytes more, %v", i, n, err)
				}
				if !c.MPTCP {
					t.Errorf("connection %d: no MPTCP", i)
				}
				c.Close()
				s.grown(t, before, mib{"client:MPTcpExtMPCapableFallbackSYNACK": 0})
			}
		})
	}
}
