// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// Each packet of the handshakes that has an order comes behind what follows it, on either side of
// the converter.
func TestOnPathReordered(t *testing.T) { onPathAgain(t, late) }

// Each comes twice.
func TestOnPathRepeated(t *testing.T) { onPathAgain(t, twice) }

func onPathAgain(t *testing.T, again func(*testing.T, *lab.Node, string, string) (*atomic.Int64, func())) {
	s := newStreet(t, rig.OnPath)
	for _, tt := range handshakes {
		if tt.bulk {
			continue // one of several at once: late is what no rule can tell
		}
		for _, place := range []struct {
			name, hook string
			node       *lab.Node
		}{{"on the client's side", "postrouting", s.Client}, {"on the server's side", "prerouting", s.Core}} {
			if tt.down != "" && place.node == s.Client {
				place.node = s.Box // behind the converter
			}
			if tt.ours && place.node == s.Core {
				continue
			}
			t.Run(tt.name+" "+place.name, func(t *testing.T) {
				packets, stopAgain := again(t, place.node, place.hook, tt.up+tt.down)
				defer stopAgain()
				before := s.count(onPathCounters...)
				stop := background(t, s.Dial(mptcpPort))
				s.carries(t, before, 1)
				eventually(t, time.Second, func() error {
					if packets.Load() == 0 {
						return errors.New("nothing came again")
					}
					return nil
				})
				t.Log(stop())
			})
		}
	}
}

// What the lines of a client are makes of it: without a second one it loses
// nothing; one with IPv4 it uses by itself, past the converter.
func TestOnPathPhone(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	sh(t, s.Client, "ip mptcp endpoint flush; ip -6 route del default")
	for name, port := range map[string]uint16{"MPTCP": mptcpPort, "TCP": plainPort} {
		t.Run("no second line, "+name, func(t *testing.T) {
			before := s.count(onPathCounters...)
			s.shares(t, port, 8e6, 0.9, 0)
			s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "client:MPTcpExtAddAddr": 1, "client:MPTcpExtMPJoinSynAckRx": 0,
				"server:MPTcpExtMPJoinSynRx": 0, "box:MPTcpExtMPJoinSynRx": 0})
		})
	}
	ownLine(t, s.Rig, s.Client)
	t.Run("a line with IPv4", func(t *testing.T) {
		before := s.count(onPathCounters...)
		carried, _ := s.lent(t)
		own, fibre := s.received(t, "own"), s.received(t, "fibre")
		stop := background(t, s.Dial(mptcpPort))
		s.joined(t, before, 1)
		eventually(t, 3*time.Second, func() error {
			if o, f := s.received(t, "own")-own, s.received(t, "fibre")-fibre; o < 1e6 || f < 1e6 {
				return fmt.Errorf("%d bytes over its own line, %d over fibre", o, f)
			}
			return nil
		})
		if out := sh(t, s.Server, fmt.Sprintf("ss -Htn state established sport = :%d", mptcpPort)); !strings.Contains(out, "198.18.200.2") {
			t.Errorf("the server's subflows:\n%s", out)
		}
		if open := s.sockets(t); strings.Contains(open, fmt.Sprint(mptcpPort)) {
			t.Errorf("the converter has sockets:\n%s", open)
		}
		if n, _ := s.lent(t); n != carried {
			t.Errorf("%d packets were translated", n-carried)
		}
		t.Log(stop())
	})
}

// A telephone leaves the house, whose line the connection began on: it goes on by
// the address that was lent, and without a socket on the converter.
func TestOnPathLeaves(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	for how, leave := range map[string]func(bool){
		"in silence": func(gone bool) { s.Link("fibre").Blackhole(gone) },
		"the link goes": func(gone bool) {
			sh(t, s.Client, "ip link set fibre "+map[bool]string{true: "down", false: "up"}[gone])
		},
	} {
		t.Run(how, func(t *testing.T) {
			before := s.count(onPathCounters...)
			stop := background(t, s.Dial(mptcpPort))
			s.carries(t, before, 1)
			leave(true)
			eventually(t, 3*time.Second, func() error {
				from := s.received(t, "lte")
				time.Sleep(500 * time.Millisecond)
				if n := s.received(t, "lte") - from; n < 5e5 {
					return fmt.Errorf("%d bytes over lte in half a second", n)
				}
				return nil
			})
			rep := stop()
			leave(false)
			t.Log(rep)
			if rep.Stall > 2*time.Second {
				t.Errorf("%v", rep)
			}
			if how == "the link goes" {
				sh(t, s.Client, fmt.Sprintf("ip route replace default via %v dev fibre", s.WAN("fibre").Router4))
			}
		})
	}
}

// A server behind a balancer that does not say so: the join comes to another
// machine, which knows nothing of it. The connection loses nothing, and is not
// announced to for ever.
func TestOnPathBalancer(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	twin := balance(t, s.Rig, mptcpPort, "10.255.0.2")
	before := s.count(onPathCounters...)
	fibre, lte := s.received(t, "fibre"), s.received(t, "lte")
	stop := background(t, s.Dial(mptcpPort))
	time.Sleep(5 * time.Second)
	rep := stop()
	fibre, lte = s.received(t, "fibre")-fibre, s.received(t, "lte")-lte
	t.Logf("%v; %d bytes over fibre, %d over lte", rep, fibre, lte)
	if int64(fibre) < rep.Bytes || lte > 1e5 {
		t.Errorf("of %d bytes %d came over fibre, %d over lte", rep.Bytes, fibre, lte)
	}
	refused := twin.MIB("MPTcpExtMPJoinNoTokenFound")
	if refused < 1 || refused > 4 {
		t.Errorf("%d joins have come to the other machine", refused)
	}
	s.grown(t, before, mib{"client:MPTcpExtMPCapableSYNACKRX": 1, "server:MPTcpExtMPCapableSYNRX": 1, "server:MPTcpExtMPJoinAckRx": 0,
		"client:MPTcpExtMPCapableFallbackSYNACK": 0, "box:MPTcpExtMPCapableSYNRX": 0})
	if rep.Rate() < 35e6 || rep.Stall > time.Second {
		t.Errorf("it was hurt: %v", rep)
	}
}

// balance puts a second machine behind the server's address, to which what comes
// from a source goes.
func balance(t *testing.T, r *rig.Rig, port uint16, source string) *lab.Node {
	t.Helper()
	at := netip.MustParseAddr("192.0.2.180")
	twin, err := r.AddStub("twin", at, netip.MustParseAddr("2001:db8:81::81"))
	must(t, err)
	_, err = r.Serve(twin, true, port)
	must(t, err)
	nft(t, r.Core, fmt.Sprintf(`table ip balancer {
		chain prerouting { type nat hook prerouting priority dstnat; ip saddr %s ip daddr %v tcp dport %d dnat to %v; }
	}`, source, lab.Server4, port, at))
	return twin
}

// Where the kernel does not take the program, the process translates.
func TestOnPathWithoutProgram(t *testing.T) {
	s := newStreet(t, "")
	must(t, s.StartBy(rig.OnPath, "setpriv", "--bounding-set", "-bpf,-sys_admin"))
	s.shares(t, mptcpPort, 20e6, 0.3, 0.2)
	if n, kernel := s.lent(t); kernel || n < 1000 {
		t.Errorf("%d packets were translated, by the kernel: %v", n, kernel)
	}
	s.shares(t, plainPort, 20e6, 0.3, 0.2)
}

// A machine that is busy does not make the packet filter believe that the
// converter is dead.
func TestOnPathAliveUnderLoad(t *testing.T) {
	s := newStreet(t, rig.OnPath)
	stop := background(t, s.Dial(plainPort))
	ctx, cancel := context.WithCancel(t.Context())
	busy := s.Box.Command(ctx, "sh", "-c", "for i in 1 2 3 4 5 6; do (while :; do :; done) & done; wait")
	must(t, busy.Start())
	defer busy.Wait()
	defer cancel()
	const name = "client:MPTcpExtMPCapableSYNACKRX"
	for range 20 {
		before := s.count(name)
		transfer(t, s.Dial(plainPort), traffic.Download, 1e4)
		s.grown(t, before, mib{name: 1})
		if out := sh(t, s.Box, "nft list set inet braid_mcp alive"); strings.Count(out, "expires") != 2 {
			t.Errorf("not believed to live:\n%s", out)
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Log(stop())
}
