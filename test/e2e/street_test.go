// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// street is one with a converter on the path.
type street struct{ *rig.Street }

const (
	plainPort = rig.Port
	mptcpPort = rig.MPTCPPort
)

// newStreet builds one whose converter is started with a configuration, if not
// empty.
func newStreet(t *testing.T, config string) *street {
	t.Helper()
	fixed := link.Spec{Rate: 50e6, Delay: 5 * time.Millisecond}
	cellular := link.Spec{Rate: 30e6, Delay: 10 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := rig.NewStreet(ctx, bin, lab.Access{Up: fixed, Down: fixed}, lab.Access{Up: cellular, Down: cellular}, false)
	must(t, err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() && r.MCP != nil {
			t.Log(r.MCP.Log())
		}
	})
	if config != "" {
		must(t, r.Start(config))
	}
	return &street{r}
}

// mib are counters of several nodes, or what they have changed by.
type mib map[string]uint64

func (s *street) count(names ...string) mib {
	m := make(mib)
	for _, n := range names {
		where, name, _ := strings.Cut(n, ":")
		m[n] = map[string]*lab.Node{"client": s.Client, "box": s.Box, "server": s.Server}[where].MIB(name)
	}
	return m
}

// grown fails unless the counters have grown as wanted since.
func (s *street) grown(t *testing.T, since mib, want mib) {
	t.Helper()
	for n, by := range want {
		if got := s.count(n)[n] - since[n]; got != by {
			t.Errorf("%s: %d, want %d", n, got, by)
		}
	}
}

// received is what a device of the client's has received, in bytes.
func (s *street) received(t *testing.T, device string) int {
	t.Helper()
	n, err := strconv.Atoi(sh(t, s.Client, "cat /sys/class/net/"+device+"/statistics/rx_bytes"))
	must(t, err)
	return n
}

// sockets are the box's TCP sockets that are no listeners.
func (s *street) sockets(t *testing.T) string {
	t.Helper()
	return sh(t, s.Box, "ss -Htan state connected | grep -v '127.0.0.1:5124' || true")
}

// shares transfers and asserts how much of it came over each line, in parts of
// the whole.
func (s *street) shares(t *testing.T, port uint16, bytes int64, fibre, lte float64) traffic.Report {
	t.Helper()
	f, l := s.received(t, "fibre"), s.received(t, "lte")
	rep := transfer(t, s.Dial(port), traffic.Download, bytes)
	f, l = s.received(t, "fibre")-f, s.received(t, "lte")-l
	t.Logf("%v; %d bytes over fibre, %d over lte", rep, f, l)
	if float64(f) < fibre*float64(bytes) || float64(l) < lte*float64(bytes) {
		t.Errorf("%d and %d of %d bytes over fibre and lte, want parts of at least %.2f and %.2f", f, l, bytes, fibre, lte)
	}
	return rep
}

var onPathCounters = []string{
	"client:MPTcpExtMPCapableSYNTX", "client:MPTcpExtMPCapableSYNACKRX", "client:MPTcpExtAddAddr", "client:MPTcpExtMPJoinSynTx",
	"client:MPTcpExtMPJoinSynAckRx", "client:MPTcpExtMPCapableFallbackSYNACK", "client:MPTcpExtAddAddrDrop",
	"server:MPTcpExtMPCapableSYNRX", "server:MPTcpExtMPJoinSynRx", "server:MPTcpExtMPJoinAckRx", "server:MPTcpExtMPJoinNoTokenFound",
	"box:MPTcpExtMPCapableSYNRX", "box:MPTcpExtMPCapableSYNTX", "box:MPTcpExtMPJoinSynRx", "box:MPTcpExtMPJoinAckRx",
}

// Case (2) of the question that braid comes from. The server speaks MPTCP and has
// IPv4 alone, the client's second line IPv6 alone. The converter forwards, has no
// socket, and lends an address; the second subflow reaches the server by the
// converter's own IPv4.
func TestOnPathLends(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	before := s.count(onPathCounters...)
	stop := background(t, s.Dial(mptcpPort))
	eventually(t, 2*time.Second, func() error {
		if n := s.count("server:MPTcpExtMPJoinAckRx")["server:MPTcpExtMPJoinAckRx"] - before["server:MPTcpExtMPJoinAckRx"]; n != 1 {
			return fmt.Errorf("%d joins", n)
		}
		return nil
	})
	if open := s.sockets(t); open != "" {
		t.Errorf("the converter has sockets:\n%s", open)
	}
	out := sh(t, s.Server, "ss -Htn state established sport = :"+strconv.Itoa(int(mptcpPort)))
	if !strings.Contains(out, "198.51.100.2") || !strings.Contains(out, "10.255.0.2") {
		t.Errorf("the server's subflows:\n%s", out)
	}
	rep := stop()
	t.Log(rep)
	s.grown(t, before, mib{
		"client:MPTcpExtMPCapableSYNTX": 1, "client:MPTcpExtMPCapableSYNACKRX": 1, "client:MPTcpExtAddAddr": 1,
		"client:MPTcpExtMPJoinSynTx": 1, "client:MPTcpExtMPJoinSynAckRx": 1, "client:MPTcpExtAddAddrDrop": 0,
		"server:MPTcpExtMPCapableSYNRX": 1, "server:MPTcpExtMPJoinSynRx": 1,
		"box:MPTcpExtMPCapableSYNRX": 0, "box:MPTcpExtMPCapableSYNTX": 0, "box:MPTcpExtMPJoinSynRx": 0,
	})
	s.shares(t, mptcpPort, 40e6, 0.3, 0.2)
}

// The server speaks TCP. Its answer is judged, and the first connection already
// is converted: both lines carry it. So is the next, whose SYN is taken at once.
func TestOnPathConverts(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for _, name := range []string{"first", "later"} {
		before := s.count(onPathCounters...)
		s.shares(t, plainPort, 40e6, 0.3, 0.2)
		s.grown(t, before, mib{
			"client:MPTcpExtMPCapableSYNTX": 1, "client:MPTcpExtMPCapableSYNACKRX": 1, "client:MPTcpExtMPCapableFallbackSYNACK": 0,
			"client:MPTcpExtMPJoinSynAckRx": 1,
			"box:MPTcpExtMPCapableSYNRX":    1, "box:MPTcpExtMPJoinAckRx": 1, "server:MPTcpExtMPCapableSYNRX": 0,
		})
		if t.Failed() {
			t.Fatalf("%s connection", name)
		}
	}
	if err := s.MCP.Stop(); err != nil {
		t.Error(err)
	}
	s.clean(t)
}

// clean fails if the converter has left anything on the box.
func (s *street) clean(t *testing.T) {
	t.Helper()
	left := sh(t, s.Box, `nft list tables | grep braid || true; ip rule | grep 690 || true; ip -6 rule | grep 690 || true
		ip route show table 7090 2>/dev/null || true; ip -6 route show table 7090 2>/dev/null || true
		ip mptcp endpoint | grep 5125 || true; ip link | grep braid64 || true; ip -6 route | grep 2001:db8:64 || true`)
	if left != "" {
		t.Errorf("left on the box:\n%s", left)
	}
}

// Plain TCP is never touched, whatever is known of its server.
func TestOnPathLeavesTCP(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	transfer(t, s.Dial(plainPort), traffic.Download, 1000) // the server is known now
	for _, port := range []uint16{plainPort, mptcpPort} {
		tcp := func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			d.SetMultipathTCP(false)
			return s.Client.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, port).String())
		}
		if p := identify(t, tcp); p.Remote.Addr() != s.WAN("fibre").Gateway4.Addr() {
			t.Errorf("port %d sees %v", port, p.Remote)
		}
	}
}

// With the programs on the box dead, at once or hung, nothing is held: neither
// connections to a server that is known to have no MPTCP nor to another one, from
// the moment on when the kernel stops to believe in them; and what is only
// forwarded goes on.
func TestOnPathDead(t *testing.T) {
	for _, how := range []string{"killed", "hung"} {
		t.Run(how, func(t *testing.T) {
			s := newStreet(t, rig.OnPath)
			transfer(t, s.Dial(plainPort), traffic.Download, 1000)
			stop := background(t, s.Dial(mptcpPort))
			_, err := s.Serve(s.Server, false, mptcpPort+1)
			must(t, err)
			if how == "killed" {
				s.MCP.Kill()
				// At once, while the kernel still believes in it.
				if rep := transfer(t, s.Dial(plainPort), traffic.Download, 1e6); rep.Connect > 8*time.Second {
					t.Errorf("to a server that is known: %v", rep)
				}
			} else {
				must(t, s.MCP.Signal(syscall.SIGSTOP))
			}
			dead := time.Now()
			eventually(t, 2*time.Second, func() error {
				if out := sh(t, s.Box, "nft list set inet braid_mcp alive"); strings.Contains(out, "expires") {
					return errors.New("still believed to live")
				}
				return nil
			})
			took := time.Since(dead).Round(time.Millisecond)
			t.Logf("%s, and believed to live for %v", how, took)
			if how == "hung" && took > 2*time.Second {
				t.Errorf("it was believed to live for %v", took)
			}
			for _, port := range []uint16{plainPort, mptcpPort, mptcpPort + 1} {
				before := s.Box.MIB("IpForwDatagrams")
				rep := transfer(t, s.Dial(port), traffic.Download, 1e6)
				if rep.Connect > 900*time.Millisecond {
					t.Errorf("port %d: %v", port, rep)
				}
				if n := s.Box.MIB("IpForwDatagrams") - before; n < 700 {
					t.Errorf("port %d: %d packets were forwarded", port, n)
				}
			}
			if rep := stop(); rep.Stall > 3*time.Second {
				t.Errorf("the forwarded connection: %v", rep)
			}
			if how == "hung" {
				s.MCP.Kill()
			}
			must(t, s.Start(rig.OnPath))
			s.shares(t, mptcpPort, 20e6, 0.3, 0.1)
			s.shares(t, plainPort, 20e6, 0.3, 0.1)
			must(t, s.MCP.Stop())
			s.clean(t)
		})
	}
}
