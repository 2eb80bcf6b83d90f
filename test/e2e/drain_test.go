// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// idle starts a rig whose gateway looks as it does without an agent, which it
// tells, and then the agent.
func idle(t *testing.T, o rig.Options) (r *rig.Rig, before string) {
	t.Helper()
	o.Idle = true
	r = start(t, o)
	must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	must(t, r.StartAgent())
	must(t, r.Agent.Stop())                      // iptables makes its tables when it is first used
	eventually(t, 10*time.Second, func() error { // until the LAN's device has made its address, and looked for duplicates
		out := sh(t, r.Gateway, "ip -6 addr show dev lan0 scope link")
		if out == "" || strings.Contains(out, "tentative") {
			return fmt.Errorf("address %q", out)
		}
		return nil
	})
	before = kernel(t, r) + tables(t, r)
	must(t, r.StartAgent())
	return r, before
}

func leftNothing(t *testing.T, r *rig.Rig, before string) {
	t.Helper()
	if diff := cmp.Diff(before, kernel(t, r)+tables(t, r)); diff != "" {
		t.Errorf("left behind (-before +now):\n%s", diff)
	}
}

// A new agent takes over while the old one carries its connections to their
// end, and nothing that the LAN opens meanwhile is refused.
func TestRestart(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) { testRestart(t, backend(t, b, rig.DefaultUCI)) })
	}
	t.Run("late", func(t *testing.T) { testRestart(t, lateUCI) })
}

func testRestart(t *testing.T, uci string) {
	const begun = 2e6
	r, before := idle(t, rig.Options{UCI: uci, Lab: lines()})
	old := r.Agent
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 10*time.Second, func() error {
		if cs := connections(t, r); len(cs) != 1 || cs[0].RX < begun || len(cs[0].Subflows) != 2 {
			return fmt.Errorf("connections %+v", cs)
		}
		return nil
	})

	removed := r.Converter.MIB("MPTcpExtRmAddr")
	stopKnocking := knock(t, r)
	must(t, old.Signal(syscall.SIGTERM))
	must(t, r.StartAgent())
	eventually(t, 5*time.Second, func() error { // until it is not the old one that answers
		out, err := r.Braid("connections", "-json")
		var cs report.Connections
		if err == nil {
			err = json.Unmarshal(out, &cs)
		}
		if err == nil && slices.ContainsFunc(cs.Connections, func(c report.Connection) bool { return c.RX > begun }) {
			err = fmt.Errorf("connections %+v", cs.Connections)
		}
		return err
	})
	eventually(t, 5*time.Second, func() error {
		if s := status(t, r); s.Firewall == "" || s.Connections.Convert == 0 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	stopKnocking()
	capable := r.Converter.MIB("MPTcpExtMPCapableSYNRX")
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 || c.TCPFallback != 0 {
		t.Errorf("the new agent counted %+v", c)
	}
	if r.Converter.MIB("MPTcpExtMPCapableSYNRX") == capable {
		t.Error("the converter has not seen the new connection")
	}
	if old.Wait(0) == nil {
		t.Error("the old agent has ended")
	}
	rep := stop()
	t.Log(rep)
	if n := r.Converter.MIB("MPTcpExtRmAddr") - removed; n != 0 {
		t.Errorf("%d addresses were taken away", n)
	}
	if rep.Stall > time.Second {
		t.Errorf("the download has stalled for %v", rep.Stall)
	}
	during := tables(t, r)
	must(t, old.Wait(3*time.Second))
	if diff := cmp.Diff(during, tables(t, r)); diff != "" {
		t.Errorf("the old agent's end has changed (-before +now):\n%s", diff)
	}
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server6), traffic.Echo, 1e5) }); c.Convert != 1 {
		t.Errorf("the new agent counted %+v", c)
	}
	must(t, r.Agent.Stop())
	leftNothing(t, r, before)
}

// knock opens a connection after the other until it is stopped: each must do
// what it is for, and none may wait for more than one SYN to be sent again.
func knock(t *testing.T, r *rig.Rig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		n, slowest := 0, time.Duration(0)
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			bounded, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			began := time.Now()
			if _, err := r.FromHost(lab.Server4).Identify(bounded); err != nil {
				t.Errorf("connection %d: %v", n, err)
			}
			cancel()
			slowest = max(slowest, time.Since(began))
			n++
		}
		t.Logf("%d connections, the slowest took %v", n, slowest)
		if slowest > 1800*time.Millisecond {
			t.Errorf("a connection took %v", slowest)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// Without a successor open connections are carried on, new ones are not taken,
// and a second signal ends the waiting.
func TestDrain(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r, before := idle(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI)})
			l := listen(t, r.Server, rawPort)
			host, err := dial(t, r.Host(), lab.Server4, rawPort)
			must(t, err)
			server, err := l.Accept()
			must(t, err)
			t.Cleanup(func() { server.Close() })
			both := func() {
				t.Helper()
				for _, way := range [][2]net.Conn{{host, server}, {server, host}} {
					_, err := way[0].Write([]byte{1})
					must(t, err)
					_, err = way[1].Read(make([]byte, 1))
					must(t, err)
				}
			}
			both()
			stopped := time.Now()
			must(t, r.Agent.Signal(syscall.SIGTERM))
			plain(t, r, 2*time.Second)
			eventually(t, time.Second, func() error {
				if _, err := r.Status(); err == nil {
					return errors.New("the agent answers still")
				}
				return nil
			})
			for ; time.Since(stopped) < 5*time.Second; time.Sleep(time.Second) {
				both()
			}
			both()
			must(t, r.Agent.Signal(syscall.SIGTERM))
			must(t, r.Agent.Wait(2*time.Second))
			if _, err := host.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the host saw %v", err)
			}
			leftNothing(t, r, before)
		})
	}
}

// Without open connections there is nothing to wait for.
func TestStopsAtOnce(t *testing.T) {
	r, before := idle(t, rig.Options{})
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
	must(t, r.Agent.Signal(syscall.SIGTERM))
	must(t, r.Agent.Wait(2*time.Second))
	leftNothing(t, r, before)
}

// An agent whose connections end during its drain takes everything away.
func TestDrained(t *testing.T) {
	r, before := idle(t, rig.Options{Lab: lines()})
	stop := endless(t, r.FromHost(lab.Server4), traffic.Echo)
	eventually(t, 10*time.Second, func() error {
		if cs := connections(t, r); len(cs) != 1 {
			return fmt.Errorf("connections %+v", cs)
		}
		return nil
	})
	must(t, r.Agent.Signal(syscall.SIGTERM))
	plain(t, r, 2*time.Second)
	if r.Agent.Wait(0) == nil {
		t.Error("the agent has ended before its connection")
	}
	t.Log(stop())
	must(t, r.Agent.Wait(3*time.Second))
	leftNothing(t, r, before)
}

// One agent at a time works on a kernel.
func TestSecondAgent(t *testing.T) {
	r := start(t, rig.Options{})
	during := tables(t, r)
	out, err := r.Gateway.Command(t.Context(), filepath.Join(bin, "braid"), "agent", "-uci", r.UCI, "-ubus", filepath.Join(t.TempDir(), "ubus.sock"), "-standalone").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if want := fmt.Sprintf("another agent runs in this network namespace (pid %d)", r.Agent.Pid()); !strings.Contains(string(out), want) {
		t.Errorf("it said %s, want %s", out, want)
	}
	if diff := cmp.Diff(during, tables(t, r)); diff != "" {
		t.Errorf("it has changed the kernel (-before +now):\n%s", diff)
	}
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
		t.Errorf("the agent counted %+v", c)
	}
}

// The translator of a WAN that has IPv6 alone goes over to the new agent.
func TestRestartTranslator(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only()})
	translated(t, r)
	old := r.Agent
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 5*time.Second, func() error {
		if cs := connections(t, r); len(cs) != 1 || cs[0].RX < 1e6 {
			return fmt.Errorf("connections %+v", cs)
		}
		return nil
	})
	must(t, old.Signal(syscall.SIGTERM))
	eventually(t, 2*time.Second, func() error { // it does not answer any more
		if _, err := r.Status(); err == nil {
			return errors.New("the old agent answers")
		}
		return nil
	})
	must(t, r.StartAgent())
	translated(t, r)
	if old.Wait(0) == nil {
		t.Error("the old agent has ended")
	}
	leaves(t, r)
	rep := stop()
	t.Log(rep)
	if rep.Stall > time.Second {
		t.Errorf("the download has stalled for %v", rep.Stall)
	}
	must(t, old.Wait(3*time.Second))
	translated(t, r)
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
}
