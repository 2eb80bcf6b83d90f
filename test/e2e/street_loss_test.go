// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// joined waits until the server has seen that many more joins than before.
func (s *street) joined(t *testing.T, before mib, n uint64) {
	t.Helper()
	const name = "server:MPTcpExtMPJoinAckRx"
	eventually(t, 5*time.Second, func() error {
		if got := s.count(name)[name] - before[name]; got < n {
			return fmt.Errorf("%d of %d joins", got, n)
		}
		return nil
	})
}

// carries waits until the server has seen that many more joins than before, and
// both lines carry. It fails if the converter has a part in it.
func (s *street) carries(t *testing.T, before mib, n uint64) {
	t.Helper()
	s.joined(t, before, n)
	fibre, lte := s.received(t, "fibre"), s.received(t, "lte")
	eventually(t, 3*time.Second, func() error {
		if f, l := s.received(t, "fibre")-fibre, s.received(t, "lte")-lte; f < 1e5 || l < 1e5 {
			return fmt.Errorf("%d bytes over fibre, %d over lte", f, l)
		}
		return nil
	})
	if open := sh(t, s.Box, fmt.Sprintf("ss -Htan state connected '( sport = :%[1]d or dport = :%[1]d )'", mptcpPort)); open != "" {
		t.Errorf("the converter has sockets:\n%s", open)
	}
	s.grown(t, before, mib{"client:MPTcpExtMPCapableFallbackSYNACK": 0, "box:MPTcpExtMPJoinSynRx": 0})
}

// lose has a node lose the first packet that matches, at a hook before all else.
func lose(t *testing.T, n *lab.Node, hook, match string) {
	t.Helper()
	nft(t, n, fmt.Sprintf(`table inet lose
		delete table inet lose
		table inet lose {
			set lost { typeof meta nfproto; flags dynamic; size 2; }
			chain lose { type filter hook %s priority -400; meta l4proto tcp %s meta nfproto != @lost add @lost { meta nfproto } counter drop; }
		}`, hook, match))
}

// handshakes are the packets of which MPTCP comes about on a connection that is
// lent an address: what the client sends or is sent.
var handshakes = append(announced(`ip saddr 198.51.100.2 `, `ip daddr 198.51.100.2 `), []handshake{
	{name: "join's SYN", up: `ip6 daddr 2001:db8:64::/96 tcp flags & (syn|ack) == syn`},
	{name: "join's SYN+ACK", down: `ip6 saddr 2001:db8:64::/96 tcp flags & (syn|ack) == (syn|ack)`},
	{name: "join's third packet", up: `ip6 daddr 2001:db8:64::/96 tcp flags & (syn|ack) == ack`, bulk: true},
}...)

// announced are those of a first subflow on which an address is announced, up to
// the announcement's echo; up and down match what goes each way.
func announced(up, down string) []handshake {
	return []handshake{
		{name: "SYN", up: up + `tcp flags & (syn|ack) == syn tcp option mptcp subtype 0`},
		{name: "SYN+ACK", down: down + `tcp flags & (syn|ack) == (syn|ack) tcp option mptcp subtype 0`},
		{name: "third packet", up: up + `tcp flags & (syn|ack|psh) == ack tcp option mptcp subtype 0`},
		{name: "first data", up: up + `tcp flags & (syn|ack|psh) == (ack|psh) tcp option mptcp subtype 0`},
		{name: "the server's first DSS", down: down + `tcp flags & (syn|ack) == ack tcp option mptcp subtype 2`, bulk: true},
		{name: "announcement", down: down + `tcp flags & (syn|ack) == ack tcp option mptcp subtype 3`, ours: true},
		{name: "echo", up: up + `tcp flags & (syn|ack) == ack tcp option mptcp subtype 3`},
	}
}

type handshake struct {
	name, up, down string
	ours           bool // the converter sends it
	bulk           bool // others that follow look like it
}

// Each packet of the handshakes is lost in turn, before the converter and behind
// it. MPTCP stays, the address is announced, and taken.
func TestOnPathLosses(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for _, tt := range handshakes {
		match := tt.up + tt.down
		for _, place := range []struct {
			name, hook string
			node       *lab.Node
		}{{"on the client's side", "prerouting", s.Box}, {"on the server's side", "prerouting", s.Core}} {
			if tt.down != "" && place.node == s.Box {
				place.hook = "postrouting"
			}
			if tt.ours && place.node == s.Core {
				continue // it is the converter's
			}
			t.Run(tt.name+" "+place.name, func(t *testing.T) {
				lose(t, place.node, place.hook, match)
				defer sh(t, place.node, "nft delete table inet lose")
				before := s.count(onPathCounters...)
				stop := background(t, s.Dial(mptcpPort))
				s.carries(t, before, 1)
				t.Log(stop())
				if sh(t, place.node, "nft list table inet lose | grep -c 'counter packets 0 ' || true") != "0" {
					t.Error("nothing was lost")
				}
			})
		}
	}
}

// The same for a server without MPTCP, whose answer the converter drops anyway.
func TestOnPathLossesConverting(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for _, tt := range []struct{ name, hook, match string }{
		{"SYN", "prerouting", `iifname "gw" tcp flags & (syn|ack) == syn`},
		{"SYN to the server", "postrouting", `oifname "core" tcp flags & (syn|ack) == syn`},
		{"SYN+ACK of the server", "prerouting", `iifname "core" tcp flags & (syn|ack) == (syn|ack)`},
		{"SYN+ACK of the converter", "postrouting", `oifname "gw" tcp flags & (syn|ack) == (syn|ack)`},
		{"the client's SYN again", "prerouting", `iifname "lo" tcp flags & (syn|ack) == syn`},
		{"reset", "postrouting", `oifname "core" tcp flags & rst == rst`},
		{"third packet", "prerouting", `iifname "gw" tcp flags & (syn|ack|psh) == ack`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sh(t, s.Box, "nft flush set inet braid_mcp plain_ip; nft flush set inet braid_mcp capable_ip")
			lose(t, s.Box, tt.hook, tt.match)
			defer sh(t, s.Box, "nft delete table inet lose")
			before := s.count(onPathCounters...)
			t.Log(transfer(t, s.Dial(plainPort), traffic.Download, 4e6))
			s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "client:MPTcpExtMPCapableFallbackSYNACK": 0, "box:MPTcpExtMPCapableSYNRX": 1})
			if sh(t, s.Box, "nft list table inet lose | grep -c 'counter packets 0 ' || true") != "0" {
				t.Error("nothing was lost")
			}
		})
	}
}

// Whatever the two ends have agreed on.
func TestOnPathOptions(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for _, key := range []string{"net.ipv4.tcp_timestamps 0", "net.ipv4.tcp_sack 0", "net.mptcp.checksum_enabled 1", "net.ipv4.tcp_window_scaling 0"} {
		t.Run(key, func(t *testing.T) {
			var name string
			var value int
			if _, err := fmt.Sscan(key, &name, &value); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*lab.Node{s.Client, s.Server} {
				must(t, n.Sysctl(name, fmt.Sprint(value)))
				defer n.Sysctl(name, fmt.Sprint(1-value))
			}
			before := s.count(onPathCounters...)
			stop := background(t, s.Dial(mptcpPort))
			s.carries(t, before, 1)
			t.Log(stop())
			before = s.count(onPathCounters...)
			s.shares(t, plainPort, 12e6, 0.2, 0.05)
			s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "box:MPTcpExtMPJoinAckRx": 1})
		})
	}
}
