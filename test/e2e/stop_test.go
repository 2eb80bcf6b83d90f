// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// kernel shows all of a gateway that braid may touch, and more.
func kernel(t *testing.T, r *rig.Rig) string {
	t.Helper()
	eventually(t, 5*time.Second, func() error { // link-local addresses come, with their routes, up to a second after their link
		if late := sh(t, r.Gateway, "ip -6 addr show tentative"); late != "" {
			return fmt.Errorf("addresses that are not there yet:\n%s", late)
		}
		return nil
	})
	return sh(t, r.Gateway, `
		ip -4 rule
		ip -6 rule
		ip -4 route show table all | sort
		ip -6 route show table all | sort
		ip mptcp endpoint
		ip mptcp limits
		nft list ruleset
		grep -r . /proc/sys/net/mptcp /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/core 2>/dev/null | sort || true`)
}

// strange gives a gateway settings and objects that others have made.
func strange(t *testing.T, r *rig.Rig) {
	t.Helper()
	sh(t, r.Gateway, `
		ip mptcp endpoint add 203.0.113.200 id 5 signal
		ip mptcp limits set subflows 3 add_addr_accepted 1
		ip rule add pref 698 fwmark 0x100 lookup main
		ip rule add pref 5270 fwmark 0x80000/0xff0000 lookup 52
		ip route add 203.0.113.0/24 dev lte table 6999
		sysctl -qw net.ipv4.conf.fibre.rp_filter=1 net.ipv4.conf.lte.rp_filter=0 net.mptcp.blackhole_timeout=1800
		nft add table inet fw4`)
}

// Whatever the way it ends, braid leaves the kernel as it was.
func TestLeavesNothing(t *testing.T) {
	r := start(t, rig.Options{Idle: true})
	strange(t, r)
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	before := kernel(t, r)

	for _, tt := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"stopped", func(*testing.T) {}},
		{"stopped with connections open", func(t *testing.T) {
			c, err := dial(t, r.Host(), lab.Server4, rig.Port)
			must(t, err)
			eventually(t, 5*time.Second, func() error {
				if n := status(t, r).Connections.Open; n != 1 {
					return fmt.Errorf("%d connections are open", n)
				}
				return nil
			})
			t.Cleanup(func() {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the host saw %v", err)
				}
				eventually(t, 5*time.Second, func() error {
					if n := metric(t, r, "braid_mcp_open"); n != 0 {
						return fmt.Errorf("%v connections are open at the converter", n)
					}
					return nil
				})
			})
		}},
		{"after a change of the network", func(t *testing.T) {
			must(t, r.WAN("lte").SetDown())
			eventually(t, 5*time.Second, func() error {
				if s := status(t, r).WANs[1].State; s != "down" {
					return fmt.Errorf("lte is %s", s)
				}
				return nil
			})
			must(t, r.WAN("lte").SetUp())
			sh(t, r.Gateway, "ip route add 203.0.113.0/24 dev lte table 6999")
			eventually(t, 5*time.Second, func() error {
				if s := status(t, r).WANs[1].State; s != "up" {
					return fmt.Errorf("lte is %s", s)
				}
				return nil
			})
		}},
		{"killed and started again", func(t *testing.T) {
			r.Agent.Kill()
			must(t, r.StartAgent())
			transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
		}},
		{"killed twice", func(t *testing.T) {
			for range 2 {
				r.Agent.Kill()
				must(t, r.StartAgent())
			}
		}},
		{"switched off", func(t *testing.T) {
			must(t, r.WriteUCI("config globals 'globals'\n\toption enabled '0'\n"))
			must(t, r.Agent.Signal(syscall.SIGHUP))
			eventually(t, 5*time.Second, func() error {
				if diff := cmp.Diff(before, kernel(t, r)); diff != "" {
					return fmt.Errorf("left behind (-before +now):\n%s", diff)
				}
				return nil
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, r.WriteUCI(rig.DefaultUCI))
			must(t, r.StartAgent())
			if during := kernel(t, r); during == before {
				t.Error("braid has changed nothing")
			}
			tt.run(t)
			must(t, r.Agent.Stop())
			if diff := cmp.Diff(before, kernel(t, r)); diff != "" {
				t.Errorf("left behind (-before +now):\n%s", diff)
			}
		})
	}
}

// Somebody else's endpoint with a WAN's address is left alone, and no reason to
// end with an error.
func TestForeignEndpoint(t *testing.T) {
	r := start(t, rig.Options{Idle: true})
	sh(t, r.Gateway, "ip mptcp endpoint add 198.51.100.2 id 5 subflow; ip mptcp limits set subflows 4")
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	before := kernel(t, r)
	must(t, r.StartAgent())
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e6) }); c.Convert != 1 || c.TCPFallback != 0 {
		t.Errorf("the agent counted %+v", c)
	}
	must(t, r.Agent.Stop())
	if diff := cmp.Diff(before, kernel(t, r)); diff != "" {
		t.Errorf("left behind (-before +now):\n%s", diff)
	}
}

// The converter stops at once, whatever its connections wait for.
func TestConverterStops(t *testing.T) {
	r := start(t, rig.Options{})
	l := listen(t, r.Server, rawPort)
	for i := range 10 {
		host, err := dial(t, r.Host(), lab.Server4, rawPort)
		must(t, err)
		server, err := l.Accept()
		must(t, err)
		t.Cleanup(func() { server.Close() })
		if i%2 == 0 {
			must(t, host.(*net.TCPConn).CloseWrite())
			_, err := io.ReadAll(server) // until the half-close is through
			must(t, err)
		}
	}
	began := time.Now()
	must(t, r.MCP.Stop())
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("after %v", d)
	}
}

// What is open while a converter drains is carried all the same.
func TestConverterDrains(t *testing.T) {
	r := start(t, rig.Options{})
	l := listen(t, r.Server, rawPort)
	host, err := dial(t, r.Host(), lab.Server4, rawPort)
	must(t, err)
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	go io.Copy(server, server)
	said := func() {
		t.Helper()
		host.SetDeadline(time.Now().Add(2 * time.Second))
		_, err := host.Write([]byte("x"))
		must(t, err)
		_, err = io.ReadFull(host, make([]byte, 1))
		must(t, err)
	}
	said()
	must(t, r.MCP.Signal(syscall.SIGTERM))
	for range 10 {
		time.Sleep(200 * time.Millisecond)
		said()
	}
	must(t, host.Close())
	must(t, r.MCP.Wait(2*time.Second*patience))
}

// plain waits until new connections are routed without braid's agent.
func plain(t *testing.T, r *rig.Rig, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, within, func() error {
		for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
			seen := r.Converter.MIB("MPTcpExtMPCapableSYNRX")
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			p, err := r.FromHost(to).Identify(ctx)
			cancel()
			if err != nil {
				return err
			}
			if !slices.Contains(outside(r, to.Is6()), p.Remote.Addr()) || r.Converter.MIB("MPTcpExtMPCapableSYNRX") != seen {
				return fmt.Errorf("the server sees %v", p.Remote)
			}
		}
		return nil
	})
	return time.Since(began)
}

// An agent that is dead or hangs is not the end of the LAN's network.
func TestAgentDead(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) { testAgentDead(t, b) })
	}
}

func testAgentDead(t *testing.T, b string) {
	r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI)})
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)

	t.Run("hung", func(t *testing.T) {
		must(t, r.Agent.Signal(syscall.SIGSTOP))
		t.Logf("plain routing after %v", plain(t, r, 4*time.Second))
		must(t, r.Agent.Signal(syscall.SIGCONT))
		eventually(t, 4*time.Second, func() error {
			if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert == 0 {
				return errors.New("braid does not take connections again")
			}
			return nil
		})
	})
	t.Run("killed", func(t *testing.T) {
		r.Agent.Kill()
		t.Logf("plain routing after %v", plain(t, r, 4*time.Second))
		must(t, r.StartAgent())
		if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
			t.Errorf("the agent counted %+v", c)
		}
	})
}
