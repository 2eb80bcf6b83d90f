// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"encoding/json"
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

// lent is how many packets were translated, and whether the kernel does it by
// itself.
func (s *street) lent(t *testing.T) (packets int, kernel bool) {
	t.Helper()
	var st struct {
		OnPath struct {
			Translated, Dropped int
			InKernel            bool `json:"in_kernel"`
		} `json:"on_path"`
	}
	out, err := s.ConverterStatus()
	must(t, err)
	must(t, json.Unmarshal(out, &st))
	return st.OnPath.Translated + st.OnPath.Dropped, st.OnPath.InKernel
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
	before := s.count(onPathCounters...)
	carried, kernel := s.lent(t)
	if carried == 0 || !kernel {
		t.Fatalf("%d packets were translated, by the kernel: %v", carried, kernel)
	}
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
	if n, _ := s.lent(t); n != carried {
		t.Errorf("%d packets were let through", n-carried)
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

// asksMPTCP is the option of a SYN that does, capable that of an answer.
var (
	asksMPTCP = []byte{30, 4, 1, 1}
	wrongKeys = append([]byte{30, 20, 1, 1}, "wrong___wrong__!"...)
)

// A client that forges keys for a connection of its own gets no address, and has
// it otherwise as before; what it opens meanwhile is not disturbed.
func TestOnPathWrongKeys(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	must(t, s.Client.Sysctl("net.ipv4.ip_local_port_range", "45555 45555"))
	before := s.count(onPathCounters...)
	stop := background(t, s.Dial(mptcpPort))
	s.joined(t, before, 1)
	forge(t, s.Client, func(send func(*segment.Segment)) {
		send(&segment.Segment{Src: netip.AddrPortFrom(fixed4, 45555), Dst: netip.AddrPortFrom(lab.Server4, mptcpPort),
			Flags: segment.ACK, Seq: 1, Ack: 1, Window: 64000, Options: wrongKeys})
	})
	const announced = 4
	eventually(t, 5*time.Second, func() error {
		var st struct {
			OnPath struct{ Forwarded, Announced int } `json:"on_path"`
		}
		out, err := s.ConverterStatus()
		must(t, err)
		must(t, json.Unmarshal(out, &st))
		if st.OnPath.Forwarded != 2 || st.OnPath.Announced < announced {
			return fmt.Errorf("%+v", st.OnPath)
		}
		return nil
	})
	s.grown(t, before, mib{"client:MPTcpExtAddAddr": 1, "client:MPTcpExtMPJoinSynTx": 1, "server:MPTcpExtMPJoinAckRx": 1})
	must(t, s.Client.Sysctl("net.ipv4.ip_local_port_range", "45600 45700"))
	other := background(t, s.Dial(mptcpPort))
	s.joined(t, before, 2)
	other()
	if rep := stop(); rep.Stall > time.Second {
		t.Errorf("%v", rep)
	}
}

// Answers that somebody forges in a server's name teach the converter nothing,
// unless a client has asked by that very flow; and then the connection works, both
// lines and all.
func TestOnPathForgedAnswers(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	answer := func(port uint16) *segment.Segment {
		return &segment.Segment{Src: netip.AddrPortFrom(lab.Server4, mptcpPort), Dst: netip.AddrPortFrom(fixed4, port),
			Flags: segment.SYN | segment.ACK, Seq: 1, Ack: 1, Window: 64000}
	}
	forge(t, s.Core, func(send func(*segment.Segment)) {
		for i := range 5000 {
			send(answer(uint16(1024 + i)))
		}
	})
	if n := s.elements(t, "plain_ip"); n != 0 {
		t.Errorf("%d servers are believed to have no MPTCP", n)
	}
	before := s.count(onPathCounters...)
	s.shares(t, mptcpPort, 8e6, 0.3, 0.05)
	s.grown(t, before, mib{"server:MPTcpExtMPJoinAckRx": 1, "box:MPTcpExtMPCapableSYNRX": 0})

	// One who guesses the port, and is faster than the server.
	sh(t, s.Box, "nft flush set inet braid_mcp capable_ip")
	must(t, s.Client.Sysctl("net.ipv4.ip_local_port_range", "45555 45555"))
	lose(t, s.Core, "prerouting", `ip saddr 192.0.2.80 tcp flags & (syn|ack) == (syn|ack)`)
	before = s.count(onPathCounters...)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		forge(t, s.Core, func(send func(*segment.Segment)) {
			for range 100 {
				send(answer(45555))
				time.Sleep(5 * time.Millisecond)
			}
		})
	}()
	s.shares(t, mptcpPort, 20e6, 0.3, 0.1)
	<-doneC
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "box:MPTcpExtMPCapableSYNRX": 1, "box:MPTcpExtMPJoinAckRx": 1})
}

// A client that floods the converter with SYNs fills what is kept of them, which
// is bounded, and nobody else's connection waits.
func TestOnPathFlood(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	usage, err := s.MCP.Usage()
	must(t, err)
	forge(t, s.Client, func(send func(*segment.Segment)) {
		for i := range 30000 {
			send(&segment.Segment{Src: netip.AddrPortFrom(fixed4, uint16(1024+i)), Dst: netip.AddrPortFrom(lab.Server4, plainPort+uint16(i%7)),
				Flags: segment.SYN, Seq: uint32(i), Window: 64000, Options: asksMPTCP})
		}
	})
	for _, port := range []uint16{plainPort, mptcpPort} {
		if rep := transfer(t, s.Dial(port), traffic.Download, 1e6); rep.Connect > 2*time.Second {
			t.Errorf("port %d: %v", port, rep)
		}
	}
	after, err := s.MCP.Usage()
	must(t, err)
	if more := after.Anonymous - usage.Anonymous; more > 24<<20 {
		t.Errorf("%d bytes more", more)
	}
	before := s.count(onPathCounters...)
	s.shares(t, plainPort, 12e6, 0.3, 0.05)
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "box:MPTcpExtMPJoinAckRx": 1})
}
