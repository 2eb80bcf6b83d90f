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

// Each packet of the handshakes is lost in turn, before the converter and behind
// it. MPTCP stays, the address is announced, and taken.
func TestOnPathLosses(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	const (
		up    = `ip saddr 198.51.100.2 `
		down  = `ip daddr 198.51.100.2 `
		syn   = `tcp flags & (syn|ack) == syn tcp option mptcp subtype 0`
		reply = `tcp flags & (syn|ack) == (syn|ack) tcp option mptcp subtype 0`
		third = `tcp flags & (syn|ack|psh) == ack tcp option mptcp subtype 0`
		data  = `tcp flags & (syn|ack|psh) == (ack|psh) tcp option mptcp subtype 0`
		dss   = `tcp flags & (syn|ack) == ack tcp option mptcp subtype 2`
		add   = `tcp flags & (syn|ack) == ack tcp option mptcp subtype 3`
		join  = `ip6 daddr 2001:db8:64::/96 tcp flags & (syn|ack) == syn`
		back  = `ip6 saddr 2001:db8:64::/96 tcp flags & (syn|ack) == (syn|ack)`
		last  = `ip6 daddr 2001:db8:64::/96 tcp flags & (syn|ack) == ack`
	)
	for _, tt := range []struct{ name, up, down string }{
		{"SYN", up + syn, ""}, {"SYN+ACK", "", down + reply}, {"third packet", up + third, ""}, {"first data", up + data, ""},
		{"the server's first DSS", "", down + dss}, {"announcement", "", down + add}, {"echo", up + add, ""},
		{"join's SYN", join, ""}, {"join's SYN+ACK", "", back}, {"join's third packet", last, ""},
	} {
		match := tt.up + tt.down
		for _, place := range []struct {
			name, hook string
			node       *lab.Node
		}{{"on the client's side", "prerouting", s.Box}, {"on the server's side", "prerouting", s.Core}} {
			if tt.down != "" && place.node == s.Box {
				place.hook = "postrouting"
			}
			if match == down+add && place.node == s.Core {
				continue // it is the converter's
			}
			t.Run(tt.name+" "+place.name, func(t *testing.T) {
				lose(t, place.node, place.hook, match)
				defer sh(t, place.node, "nft delete table inet lose")
				before := s.count(onPathCounters...)
				stop := background(t, s.Dial(mptcpPort))
				s.joined(t, before, 1)
				t.Log(stop())
				s.grown(t, before, mib{"client:MPTcpExtMPCapableFallbackSYNACK": 0, "box:MPTcpExtMPJoinSynRx": 0})
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
			s.joined(t, before, 1)
			t.Log(stop())
			before = s.count(onPathCounters...)
			transfer(t, s.Dial(plainPort), traffic.Download, 8e6)
			s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "box:MPTcpExtMPJoinAckRx": 1})
		})
	}
}
