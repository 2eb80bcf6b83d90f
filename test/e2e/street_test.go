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
	"braid/transport/mptcp"
)

// street is a world without agent and without anything that a converter would be
// addressed by: the client is the gateway itself, and the converter the router
// of its fixed line.
//
//	         .-- fibre (IPv4, 198.51.100.2) ---- converter ----.
//	client --+                                       ^         +-- server (IPv4)
//	         '-- lte (IPv6 only) ---- carrier ---- core -------'
//
// Port 8080 of the server speaks TCP, 8081 MPTCP.
type street struct {
	*rig.Rig
	client, box, server *lab.Node
}

const (
	plainPort = rig.Port
	mptcpPort = rig.Port + 1

	onPathHead = `
listen = ["127.0.0.1:5124"]
metrics = ""
drain = 1
log_level = "debug"
`
	onPathConfig = onPathHead + `
[on_path]
interfaces = ["gw"]
clients = ["198.51.100.0/24"]
lend = "2001:db8:64::/96"
lend_to = "all"
`
)

func newStreet(t *testing.T, config string) *street {
	t.Helper()
	fixed := link.Spec{Rate: 50e6, Delay: 5 * time.Millisecond}
	cellular := link.Spec{Rate: 30e6, Delay: 10 * time.Millisecond}
	r := start(t, rig.Options{Idle: true, Lab: lab.Options{Accesses: []lab.Access{
		{Name: "fibre", Kind: lab.Fixed, V4: lab.Public, Up: fixed, Down: fixed},
		{Name: "lte", Kind: lab.Cellular, V4: lab.None, V6: true, Up: cellular, Down: cellular},
	}}})
	s := &street{r, r.Gateway, r.WAN("fibre").Router, r.Server}
	_, err := r.Serve(r.Server, true, mptcpPort)
	must(t, err)
	sh(t, r.Core, "ip -6 route add 2001:db8:64::/96 via fd00:255::2 dev fibre")
	sh(t, s.server, "ip mptcp limits set subflows 8")
	sh(t, s.client, `ip mptcp limits set subflows 8 add_addr_accepted 8
		ip mptcp endpoint add 2001:db8:c::2 dev lte id 2 subflow fullmesh`)
	for _, n := range []*lab.Node{s.client, s.server, s.box} {
		must(t, n.Sysctl("net.mptcp.blackhole_timeout", "0"))
	}
	if config != "" {
		must(t, r.StartOnPath(s.box, config))
	}
	return s
}

// dial connects from the client by MPTCP as programs do whose connections may
// have subflows of both families.
func (s *street) dial(port uint16) traffic.Dial {
	return func(ctx context.Context) (c net.Conn, err error) {
		err = s.client.Do(func() error {
			d := new(mptcp.Dialer)
			mc, err := d.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(lab.Server4, port), nil)
			if err == nil {
				c = mc
			}
			return err
		})
		return c, err
	}
}

// mib are counters of several nodes, or what they have changed by.
type mib map[string]uint64

func (s *street) count(names ...string) mib {
	m := make(mib)
	for _, n := range names {
		where, name, _ := strings.Cut(n, ":")
		m[n] = map[string]*lab.Node{"client": s.client, "box": s.box, "server": s.server}[where].MIB(name)
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
	n, err := strconv.Atoi(sh(t, s.client, "cat /sys/class/net/"+device+"/statistics/rx_bytes"))
	must(t, err)
	return n
}

// sockets are the box's TCP sockets that are no listeners.
func (s *street) sockets(t *testing.T) string {
	t.Helper()
	return sh(t, s.box, "ss -Htan state connected | grep -v '127.0.0.1:5124' || true")
}

// shares transfers and asserts how much of it came over each line, in parts of
// the whole.
func (s *street) shares(t *testing.T, port uint16, bytes int64, fibre, lte float64) traffic.Report {
	t.Helper()
	f, l := s.received(t, "fibre"), s.received(t, "lte")
	rep := transfer(t, s.dial(port), traffic.Download, bytes)
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
	s := newStreet(t, onPathConfig)
	before := s.count(onPathCounters...)
	stop := background(t, s.dial(mptcpPort))
	eventually(t, 2*time.Second, func() error {
		if n := s.count("server:MPTcpExtMPJoinAckRx")["server:MPTcpExtMPJoinAckRx"] - before["server:MPTcpExtMPJoinAckRx"]; n != 1 {
			return fmt.Errorf("%d joins", n)
		}
		return nil
	})
	if open := s.sockets(t); open != "" {
		t.Errorf("the converter has sockets:\n%s", open)
	}
	out := sh(t, s.server, "ss -Htn state established sport = :"+strconv.Itoa(int(mptcpPort)))
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
	s := newStreet(t, onPathConfig)
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
	left := sh(t, s.box, `nft list tables | grep braid || true; ip rule | grep 690 || true; ip -6 rule | grep 690 || true
		ip route show table 7090 2>/dev/null || true; ip -6 route show table 7090 2>/dev/null || true
		ip mptcp endpoint | grep 5125 || true; ip link | grep braid64 || true; ip -6 route | grep 2001:db8:64 || true`)
	if left != "" {
		t.Errorf("left on the box:\n%s", left)
	}
}

// Plain TCP is never touched, whatever is known of its server.
func TestOnPathLeavesTCP(t *testing.T) {
	s := newStreet(t, onPathConfig)
	transfer(t, s.dial(plainPort), traffic.Download, 1000) // the server is known now
	for _, port := range []uint16{plainPort, mptcpPort} {
		tcp := func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			d.SetMultipathTCP(false)
			return s.client.Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, port).String())
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
			s := newStreet(t, onPathConfig)
			transfer(t, s.dial(plainPort), traffic.Download, 1000)
			stop := background(t, s.dial(mptcpPort))
			_, err := s.Serve(s.server, false, mptcpPort+1)
			must(t, err)
			if how == "killed" {
				s.MCP.Kill()
			} else {
				must(t, s.MCP.Signal(syscall.SIGSTOP))
			}
			eventually(t, 4*time.Second, func() error {
				if out := sh(t, s.box, "nft list set inet braid_mcp alive"); strings.Contains(out, "expires") {
					return errors.New("still believed to live")
				}
				return nil
			})
			for _, port := range []uint16{plainPort, mptcpPort, mptcpPort + 1} {
				before := s.box.MIB("IpForwDatagrams")
				rep := transfer(t, s.dial(port), traffic.Download, 1e6)
				if rep.Connect > 900*time.Millisecond {
					t.Errorf("port %d: %v", port, rep)
				}
				if n := s.box.MIB("IpForwDatagrams") - before; n < 700 {
					t.Errorf("port %d: %d packets were forwarded", port, n)
				}
			}
			if rep := stop(); rep.Stall > 3*time.Second {
				t.Errorf("the forwarded connection: %v", rep)
			}
			if how == "hung" {
				s.MCP.Kill()
			}
			must(t, s.StartOnPath(s.box, onPathConfig))
			s.shares(t, mptcpPort, 20e6, 0.3, 0.1)
			s.shares(t, plainPort, 20e6, 0.3, 0.1)
			must(t, s.MCP.Stop())
			s.clean(t)
		})
	}
}
