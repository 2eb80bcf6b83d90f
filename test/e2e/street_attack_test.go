// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/onpath/raw"
	"braid/onpath/segment"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// forge sends packets from a node, whoever they say that they are from.
func forge(t *testing.T, n *lab.Node, packets func(send func(*segment.Segment))) {
	t.Helper()
	must(t, n.Do(func() error {
		s, err := raw.Open(0)
		if err != nil {
			return err
		}
		defer s.Close()
		packets(func(p *segment.Segment) {
			if err := s.Send(p.Build(), p.Dst.Addr()); err != nil {
				t.Error(err)
			}
		})
		return nil
	}))
}

// dialFor dials by TCP, for so long at most.
func dialFor(t *testing.T, n *lab.Node, to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: limit}
	d.SetMultipathTCP(true)
	c, err := n.Dial(t.Context(), d, "tcp", to.String())
	if err == nil {
		c.Close()
	}
	return c, err
}

// elements is how many a set of the box's has.
func (s *street) elements(t *testing.T, set string) int {
	t.Helper()
	return strings.Count(sh(t, s.Box, "nft list set inet braid_mcp "+set), "expires")
}

// lent is how many packets the translator was given.
func (s *street) lent(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(sh(t, s.Box, "cat /sys/class/net/braid64-0/statistics/tx_packets"))
	must(t, err)
	return n
}

var (
	lentServer = netip.MustParseAddr("2001:db8:64::c000:250") // 192.0.2.80
	cellular6  = netip.MustParseAddr("2001:db8:c::2")
	fixed4     = netip.MustParseAddr("198.51.100.2")
)

func joinOption(token uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{30, 12, 0x10, 2}, token), 1, 2, 3, 4)
}

// The lent prefix is no way into the Internet: only joins to connections that
// were seen get through, whoever guesses tokens, and nothing else does.
func TestOnPathStrangers(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	transfer(t, s.Dial(mptcpPort), traffic.Download, 8e6) // of which there was a token
	eventually(t, 3*time.Second, func() error {
		if n := s.elements(t, "tokens"); n != 0 {
			return fmt.Errorf("%d tokens of what has ended", n)
		}
		return nil
	})
	before, carried := s.count(onPathCounters...), s.lent(t)
	forge(t, s.Client, func(send func(*segment.Segment)) {
		for i := range 20000 {
			send(&segment.Segment{Src: netip.AddrPortFrom(cellular6, uint16(1024+i)), Dst: netip.AddrPortFrom(lentServer, mptcpPort),
				Flags: segment.SYN, Window: 64000, Options: joinOption(uint32(i) * 0x9e3779b1)})
		}
	})
	sh(t, s.Client, `ping -6 -c1 -W1 2001:db8:64::c000:250 >/dev/null || true
		timeout 1 sh -c 'echo x >/dev/udp/2001:db8:64::c000:250/8081' 2>/dev/null || true`)
	for _, port := range []uint16{plainPort, mptcpPort} { // neither TCP nor MPTCP is served
		_, err := dialFor(t, s.Client, netip.AddrPortFrom(lentServer, port), 500*time.Millisecond)
		if err == nil {
			t.Errorf("connected to port %d by the lent address", port)
		}
	}
	if n := s.lent(t) - carried; n != 0 {
		t.Errorf("%d packets were let through", n)
	}
	s.grown(t, before, mib{"server:MPTcpExtMPJoinSynRx": 0, "server:MPTcpExtMPJoinNoTokenFound": 0})
	// The flood over, and during it, a connection has its line.
	stop := background(t, s.Dial(mptcpPort))
	s.joined(t, before, 1)
	stop()
}

// Forged handshakes: third packets without a server's answer are not even shown;
// with one, and wrong keys, they make an announcement that its client ignores.
func TestOnPathForged(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	keys := append([]byte{30, 20, 1, 1}, "client__server__"...)
	forge(t, s.Client, func(send func(*segment.Segment)) {
		for i := range 5000 {
			send(&segment.Segment{Src: netip.AddrPortFrom(fixed4, uint16(1024+i)), Dst: netip.AddrPortFrom(lab.Server4, mptcpPort),
				Flags: segment.ACK, Seq: 1, Ack: 1, Window: 64000, Options: keys})
		}
	})
	for _, set := range []string{"lent_known_ip", "lent_pending_ip", "tokens"} {
		if n := s.elements(t, set); n != 0 {
			t.Errorf("%d elements in %s", n, set)
		}
	}
	before := s.count(onPathCounters...)
	stop := background(t, s.Dial(mptcpPort))
	s.joined(t, before, 1)
	stop()
	// A client that is not one of those that are configured.
	must(t, s.WriteConfig(strings.Replace(rig.OnPath, "198.51.100.0/24", "203.0.113.0/24", 1)))
	must(t, s.MCP.Signal(syscall.SIGHUP))
	eventually(t, 3*time.Second, func() error {
		if out := sh(t, s.Box, "nft list chain inet braid_mcp up_ip"); !strings.Contains(out, "203.0.113.0/24") {
			return fmt.Errorf("rules are as they were")
		}
		return nil
	})
	before = s.count(onPathCounters...)
	transfer(t, s.Dial(mptcpPort), traffic.Download, 1e6)
	transfer(t, s.Dial(plainPort), traffic.Download, 1e6)
	s.grown(t, before, mib{"client:MPTcpExtAddAddr": 0, "box:MPTcpExtMPCapableSYNRX": 0, "server:MPTcpExtMPJoinSynRx": 0})
}

// A reload, and a successor, leave what is open as it is, and new connections
// have what the configuration says then.
func TestOnPathReload(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	converted, forwarded := background(t, s.Dial(plainPort)), background(t, s.Dial(mptcpPort))
	s.joined(t, s.count("server:MPTcpExtMPJoinAckRx"), 0)
	must(t, s.MCP.Signal(syscall.SIGUSR2))
	eventually(t, 5*time.Second, func() error {
		if strings.Count(s.MCP.Log(), "on the path") != 2 {
			return fmt.Errorf("no successor")
		}
		return nil
	})
	_, pid, _ := strings.Cut(s.MCP.Log(), "successor=")
	successor, err := strconv.Atoi(strings.Fields(pid)[0])
	must(t, err)
	defer func() { // the lines that it has open are the predecessor's
		must(t, syscall.Kill(successor, syscall.SIGTERM))
		must(t, s.MCP.Stop())
		s.clean(t)
	}()
	for _, port := range []uint16{plainPort, mptcpPort} {
		before := s.count(onPathCounters...)
		s.shares(t, port, 8e6, 0.1, 0.01)
		if want := uint64(1); s.count("client:MPTcpExtMPCapableSYNACKRX")["client:MPTcpExtMPCapableSYNACKRX"]-before["client:MPTcpExtMPCapableSYNACKRX"] != want {
			t.Errorf("port %d: no MPTCP after the change", port)
		}
	}
	for what, stop := range map[string]func() traffic.Report{"converted": converted, "forwarded": forwarded} {
		rep := stop()
		t.Logf("%s: %v", what, rep)
		if rep.Bytes < 4e6 || rep.Stall > 2*time.Second {
			t.Errorf("%s: %v", what, rep)
		}
	}
}
