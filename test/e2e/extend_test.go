// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
	"braid/transport/mptcp"
)

// extendUCI has the connections of hosts that speak MPTCP extended.
var extendUCI = strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption lan_mptcp 'extend'", 1)

// phone has the LAN host take announced addresses, as telephones may.
func phone(t *testing.T, r *rig.Rig) *lab.Node {
	t.Helper()
	sh(t, r.Host(), "ip mptcp limits set subflows 4 add_addr_accepted 4")
	return r.Host()
}

// dial4 opens an AF_INET socket, dial6 an AF_INET6 one to the same address,
// v4-mapped.
func dial4(n *lab.Node, to netip.AddrPort) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		d.SetMultipathTCP(true)
		return n.Dial(ctx, d, "tcp", to.String())
	}
}

func dial6(n *lab.Node, to netip.AddrPort) traffic.Dial {
	return func(ctx context.Context) (c net.Conn, err error) {
		err = n.Do(func() error {
			var d mptcp.Dialer
			c, err = d.Dial(ctx, netip.Addr{}, to, nil)
			return err
		})
		return c, err
	}
}

// arrived is what has come over a line, in bytes.
func arrived(r *rig.Rig, wan string) uint64 { return r.Link(wan).BA().Counters().Bytes }

// noSockets fails if the gateway ends a connection of the LAN's or of a server's.
func noSockets(t *testing.T, r *rig.Rig) {
	t.Helper()
	for line := range strings.Lines(sh(t, r.Gateway, "ss -Htan")) {
		if strings.Contains(line, lab.Server4.String()) || strings.Contains(line, lab.Host4.String()) || strings.Contains(line, lab.Server6.String()) {
			t.Errorf("a socket on the gateway: %s", line)
		}
	}
}

var speaker4, speaker6 = netip.AddrPortFrom(lab.Server4, speaker), netip.AddrPortFrom(lab.Server6, speaker)

// A telephone's own connection has both lines, end to end: the gateway has no
// part in it but the translation of an address.
func TestExtend(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	for _, socket := range []struct {
		name string
		dial traffic.Dial
	}{{"IPv6", dial6(host, speaker6)}, {"AF_INET", dial4(host, speaker4)}, {"AF_INET6", dial6(host, speaker4)}} {
		t.Run(socket.name, func(t *testing.T) {
			before := status(t, r).Connections
			joins, heard := r.Server.MIB("MPTcpExtMPJoinAckRx"), host.MIB("MPTcpExtAddAddr")
			fibre, lte := arrived(r, "fibre"), arrived(r, "lte")
			rep := transfer(t, socket.dial, traffic.Download, 30e6)
			fibre, lte = arrived(r, "fibre")-fibre, arrived(r, "lte")-lte
			noSockets(t, r)
			if n := r.Server.MIB("MPTcpExtMPJoinAckRx") - joins; n != 1 {
				t.Errorf("%d joins at the server", n)
			}
			if n := host.MIB("MPTcpExtAddAddr") - heard; n < 1 {
				t.Errorf("the host has heard of %d addresses", n)
			}
			if fibre < 5e6 || lte < 2e6 {
				t.Errorf("%d bytes over fibre, %d over lte", fibre, lte)
			}
			after := status(t, r).Connections
			if after.Extended != before.Extended+1 || after.Total != before.Total {
				t.Errorf("counted: %+v, before %+v", after, before)
			}
			t.Log(rep)
		})
	}
	if n := host.MIB("MPTcpExtAddAddrDrop") + host.MIB("MPTcpExtMPJoinSynAckHMacFailure"); n != 0 {
		t.Errorf("%d announcements or answers were dropped", n)
	}
}

// extended starts a download of the telephone's that goes on by both lines.
func extended(t *testing.T, r *rig.Rig, host *lab.Node) (stop func() traffic.Report) {
	t.Helper()
	return extendedBy(t, r, dial4(host, speaker4), traffic.Download)
}

// extendedBy starts any transfer that does.
func extendedBy(t *testing.T, r *rig.Rig, d traffic.Dial, op traffic.Op) (stop func() traffic.Report) {
	t.Helper()
	carried := func(wan string) uint64 {
		if op == traffic.Upload {
			return r.Link(wan).AB().Counters().Bytes
		}
		return arrived(r, wan)
	}
	before := status(t, r).Connections.Extended
	lte, fibre := carried("lte"), carried("fibre")
	stop = endless(t, d, op)
	eventually(t, 3*time.Second, func() error {
		if n := status(t, r).Connections.Extended - before; n != 1 || carried("lte")-lte < 1e5 || carried("fibre")-fibre < 1e5 {
			return fmt.Errorf("%d extended, %d bytes over fibre, %d over lte", n, carried("fibre")-fibre, carried("lte")-lte)
		}
		return nil
	})
	return stop
}

// flows waits until more arrives over a line, or nothing does.
func flows(t *testing.T, r *rig.Rig, wan string, want bool) {
	t.Helper()
	eventually(t, 8*time.Second, func() error {
		before := arrived(r, wan)
		time.Sleep(500 * time.Millisecond)
		if n := arrived(r, wan) - before; n > 1e5 != want {
			return fmt.Errorf("%d bytes over %s in half a second", n, wan)
		}
		return nil
	})
}

// Either line dies and returns: the connection goes on, and has it again.
func TestExtendFailover(t *testing.T) {
	const bound = 2500 * time.Millisecond
	for _, wan := range []string{"lte", "fibre"} {
		for name, kill := range map[string]func(*rig.Rig, bool) error{
			"black hole": func(r *rig.Rig, dead bool) error { r.Link(wan).Blackhole(dead); return nil },
			"link": func(r *rig.Rig, dead bool) error {
				if dead {
					return r.WAN(wan).SetDown()
				}
				return r.WAN(wan).SetUp()
			},
		} {
			t.Run(wan+", "+name, func(t *testing.T) {
				r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
				serveMPTCP(t, r)
				stop := extended(t, r, phone(t, r))
				must(t, kill(r, true))
				eventually(t, 5*time.Second, func() error {
					for _, w := range status(t, r).WANs {
						if w.Name == wan && w.State != "down" {
							return fmt.Errorf("%s is %s", wan, w.State)
						}
					}
					return nil
				})
				flows(t, r, map[string]string{"lte": "fibre", "fibre": "lte"}[wan], true)
				must(t, kill(r, false))
				flows(t, r, wan, true)
				noSockets(t, r)
				rep := stop()
				if rep.Stall > bound {
					t.Errorf("%v", rep)
				}
				t.Log(rep)
			})
		}
	}
}

// What is not to be extended goes as it would without.
func TestNotExtended(t *testing.T) {
	pinned := extendUCI + `
config rule 'pinned'
	list dest_port '8444'
	option path 'pass'
	option wan 'lte'
`
	r := start(t, rig.Options{Lab: lines(), UCI: pinned})
	serveMPTCP(t, r)
	host := phone(t, r)
	const pinnedPort = 8444
	_, err := r.Serve(r.Server, true, pinnedPort)
	must(t, err)
	alone := func(t *testing.T, wan string, to netip.AddrPort) {
		t.Helper()
		other := map[string]string{"lte": "fibre", "fibre": "lte"}[wan]
		before, bytes := status(t, r).Connections, arrived(r, other)
		joins, heard := r.Server.MIB("MPTcpExtMPJoinSynRx"), host.MIB("MPTcpExtAddAddr")
		transfer(t, dial4(host, to), traffic.Download, 5e6)
		noSockets(t, r)
		if n := arrived(r, other) - bytes; n > 1e5 {
			t.Errorf("%d bytes over %s", n, other)
		}
		if after := status(t, r).Connections; after.Extended != before.Extended || after.Total != before.Total {
			t.Errorf("counted: %+v, before %+v", after, before)
		}
		if n, m := r.Server.MIB("MPTcpExtMPJoinSynRx")-joins, host.MIB("MPTcpExtAddAddr")-heard; n+m != 0 {
			t.Errorf("%d joins, %d addresses heard of", n, m)
		}
	}
	t.Run("a rule pins it", func(t *testing.T) { alone(t, "lte", netip.AddrPortFrom(lab.Server4, pinnedPort)) })
	t.Run("the server does not speak MPTCP", func(t *testing.T) { alone(t, "fibre", netip.AddrPortFrom(lab.Server4, rig.Port)) })
	t.Run("the server wants no joins", func(t *testing.T) {
		must(t, r.Server.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
		defer r.Server.Sysctl("net.mptcp.allow_join_initial_addr_port", "1")
		alone(t, "fibre", speaker4)
	})
	t.Run("the host takes no addresses", func(t *testing.T) {
		sh(t, host, "ip mptcp limits set add_addr_accepted 0")
		defer sh(t, host, "ip mptcp limits set add_addr_accepted 4")
		joins, extended := r.Server.MIB("MPTcpExtMPJoinSynRx"), status(t, r).Connections.Extended
		rep := transfer(t, dial4(host, speaker4), traffic.Download, 15e6)
		if n := r.Server.MIB("MPTcpExtMPJoinSynRx") - joins; n != 0 || status(t, r).Connections.Extended != extended {
			t.Errorf("%d joins", n)
		}
		if rep.Rate() < 30e6 {
			t.Errorf("it was slowed down: %v", rep)
		}
	})
	t.Run("the agent is dead", func(t *testing.T) {
		r.Agent.Kill()
		for range 3 {
			if rep := transfer(t, dial4(host, speaker4), traffic.Download, 1e6); rep.Connect > time.Second {
				t.Errorf("something holds its packets: %v", rep)
			}
			time.Sleep(time.Second)
		}
		must(t, r.StartAgent())
		extended(t, r, host)()
	})
}

// A line that is a backup takes part when it is none any more, and leaves the
// connections when it is one again.
func TestExtendHeldBack(t *testing.T) {
	backup := strings.Replace(extendUCI, "option role 'bond'", "option role 'backup'", 1)
	r := start(t, rig.Options{Lab: lines(), UCI: backup})
	serveMPTCP(t, r)
	host := phone(t, r)
	before := arrived(r, "lte")
	stop := background(t, dial4(host, speaker4))
	time.Sleep(2 * time.Second)
	if n := arrived(r, "lte") - before; n > 1e5 || r.Server.MIB("MPTcpExtMPJoinSynRx") != 0 {
		t.Errorf("%d bytes over lte, %d joins", n, r.Server.MIB("MPTcpExtMPJoinSynRx"))
	}
	become := func(uci string) {
		t.Helper()
		must(t, r.WriteUCI(uci))
		must(t, r.Agent.Signal(syscall.SIGHUP))
	}
	become(extendUCI)
	flows(t, r, "lte", true)
	become(backup)
	flows(t, r, "lte", false)
	flows(t, r, "fibre", true)
	become(extendUCI)
	flows(t, r, "lte", true)
	if rep := stop(); rep.Stall > 3*time.Second {
		t.Errorf("%v", rep)
	}
	if n := status(t, r).Connections.Extended; n != 1 {
		t.Errorf("%d connections were extended", n)
	}
}

// A telephone that leaves the house takes its connection along.
func TestExtendLeaves(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	ownLine(t, r, host)
	stop := extended(t, r, host)
	if n := r.Server.MIB("MPTcpExtMPJoinAckRx"); n != 2 {
		t.Errorf("%d joins: its own line and one of the house", n)
	}
	sh(t, host, "ip link set eth0 down")
	received := func() int64 {
		n, err := strconv.ParseInt(sh(t, host, "cat /sys/class/net/own/statistics/rx_bytes"), 10, 64)
		must(t, err)
		return n
	}
	eventually(t, 8*time.Second, func() error {
		before := received()
		time.Sleep(500 * time.Millisecond)
		if n := received() - before; n < 1e5 {
			return fmt.Errorf("%d bytes over its own line in half a second", n)
		}
		return nil
	})
	stop()
}

// With iptables the hosts are left alone, and the user is told.
func TestExtendNeedsNftables(t *testing.T) {
	uci := strings.Replace(extendUCI, "option lan_mptcp", "option firewall 'iptables'\n\toption lan_mptcp", 1)
	r := start(t, rig.Options{Lab: lines(), UCI: uci})
	serveMPTCP(t, r)
	s := status(t, r)
	told := slices.ContainsFunc(s.Problems, func(p report.Problem) bool { return p.Section == "globals" && p.Option == "lan_mptcp" })
	if !told || s.Firewall != "iptables" {
		t.Errorf("firewall %s, problems %+v", s.Firewall, s.Problems)
	}
	notTaken(t, r, func() { transfer(t, dial4(phone(t, r), speaker4), traffic.Download, 1e6) })
}
