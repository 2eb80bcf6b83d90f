// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// Two converters: when the preferred one dies, connections go through the
// other, and back when it has returned.
func TestTwoConverters(t *testing.T) {
	uci := rig.DefaultUCI + `
	option priority '5'

config converter 'second'
	list address '192.0.2.10'
	option port '5125'
	option priority '20'
`
	r := start(t, rig.Options{Lab: lines(), UCI: uci})
	_, err := r.Serve(r.Server, false, speaker)
	must(t, err)
	first := r.MCP
	must(t, r.StartMCP("-listen", "[::]:5125", "-client", "0.0.0.0/0"))
	second := r.MCP
	r.MCP = first
	defer second.Stop()
	through := func(name string) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			if c := carriedBy(t, r, lab.Server4, 1e6); c.Converter != name {
				return fmt.Errorf("carried through %q, want %q", c.Converter, name)
			}
			return nil
		})
	}
	through("mcp")
	first.Kill()
	if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1000); rep.FirstByte > 1300*time.Millisecond {
		t.Errorf("the first connection after: %v", rep)
	}
	through("second")
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	through("mcp")
}

// Another converter listens at each address: one that is full, or does not serve
// the house any more, shows as such for as long as it is so, and what is new goes
// by the other.
func TestHouseConverterAddresses(t *testing.T) {
	second := netip.MustParseAddr("192.0.2.138")
	uci := strings.Replace(rig.DefaultUCI, "list address '192.0.2.10'", "list address '192.0.2.10'\n\tlist address '192.0.2.138'", 1)
	r := start(t, rig.Options{Lab: lines(), Idle: true, UCI: uci})
	node, err := r.AddStub("mcp2", second, netip.MustParseAddr("2001:db8:2::10"))
	must(t, err)
	file := filepath.Join(t.TempDir(), "mcp.toml")
	write := func(networks string) {
		must(t, os.WriteFile(file, []byte("metrics = \"\"\n[[client]]\nname = \"house\"\nnetworks = ["+networks+"]\nconnections = 1\n"), 0o600))
	}
	write(`"0.0.0.0/0"`)
	must(t, r.StartMCP("-config", file, "-socket", filepath.Join(t.TempDir(), "control")))
	p, err := r.StartMCPAt(node, "-client", "0.0.0.0/0", "-socket", filepath.Join(t.TempDir(), "control"))
	must(t, err)
	defer p.Stop()
	must(t, r.StartAgent())
	shows := func(want string) {
		t.Helper()
		eventually(t, 15*time.Second, func() error {
			got := make(map[string]string)
			for _, c := range status(t, r).Converters {
				got[c.Address] = c.State
			}
			if got[lab.Converter4.String()] != want || got[second.String()] != "up" {
				return fmt.Errorf("the converters are %v, want the first %s", got, want)
			}
			return nil
		})
	}
	carried := func(n uint64) {
		t.Helper()
		if c := counted(t, r, func() {
			for range n {
				get(t, r, lab.Server4)
			}
		}); c.Convert != n {
			t.Errorf("of %d connections the agent counted %+v", n, c)
		}
	}
	shows("up")
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 5*time.Second, func() error {
		if n := len(connections(t, r)); n != 1 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	get(t, r, lab.Server4) // which it has no room for
	shows("full")
	carried(5)
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if s := status(t, r).Converters[0].State; s != "full" {
			t.Fatalf("it is %s, with no more room than before", s)
		}
	}
	stop()
	shows("up")
	write(`"198.51.100.255/32"`)
	must(t, r.MCP.Signal(syscall.SIGHUP))
	eventually(t, 10*time.Second, func() error {
		get(t, r, lab.Server4)
		if s := status(t, r).Converters[0].State; s != "refused" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
	shows("refused")
	carried(5)
}

// A converter that dies in the middle of a transfer takes it along: the LAN
// host learns of it at once, and what it tries next goes straight to the server.
func TestConverterDiesMidTransfer(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	time.AfterFunc(time.Second, r.MCP.Kill)
	began := time.Now()
	rep, err := r.FromHost(lab.Server4).Do(t.Context(), traffic.Download, traffic.Request{Bytes: 100e6})
	if err == nil || rep.Mismatch >= 0 {
		t.Fatalf("%v, %v", rep, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the LAN host hung until %v: %v", took, err)
	}
	if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e6); rep.FirstByte > 1300*time.Millisecond {
		t.Errorf("the next connection: %v", rep)
	}
}

// A converter that is configured by name is looked up.
func TestConverterByName(t *testing.T) {
	r := start(t, rig.Options{Idle: true, UCI: strings.Replace(rig.DefaultUCI, "'192.0.2.10'", "'mcp.example'", 1)})
	own := filepath.Join("/etc/netns", r.Gateway.Name) // ip netns exec shows it as /etc
	must(t, os.MkdirAll(own, 0o755))
	defer os.RemoveAll(own)
	must(t, os.WriteFile(filepath.Join(own, "hosts"), []byte("192.0.2.10 mcp.example\n"), 0o644))
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	eventually(t, 5*time.Second, func() error {
		if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4) }); !converted(c) {
			return fmt.Errorf("carried otherwise: %+v", c)
		}
		return nil
	})
}

// The converters of a domain are those that its DNS names, in the order of
// their priorities; when the first dies, the next carries.
func TestConvertersByDomain(t *testing.T) {
	i := strings.Index(rig.DefaultUCI, "config converter")
	r := start(t, rig.Options{Idle: true, UCI: rig.DefaultUCI[:i] + "config converter 'isp'\n\toption srv 'isp.example'\n"})
	_, err := r.Serve(r.Server, false, speaker)
	must(t, err)
	own := filepath.Join("/etc/netns", r.Gateway.Name) // ip netns exec shows it as /etc
	must(t, os.MkdirAll(own, 0o755))
	defer os.RemoveAll(own)
	must(t, os.WriteFile(filepath.Join(own, "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644))
	dns := r.Gateway.Command(t.Context(), "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--host-record=mcp.isp.example,192.0.2.10",
		"--srv-host=_convert._tcp.isp.example,mcp.isp.example,5125,1,10", "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5124,2,10")
	must(t, dns.Start())
	defer func() { dns.Process.Kill(); dns.Wait() }()
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	second := r.MCP
	must(t, r.StartMCP("-listen", "[::]:5125", "-client", "0.0.0.0/0"))
	first := r.MCP
	r.MCP = second
	defer first.Stop()
	must(t, r.StartAgent())
	accepted := func() [2]bool {
		t.Helper()
		s, err := r.Status()
		must(t, err)
		var up [2]bool
		for _, c := range s.Converters {
			up[c.Port-5124] = c.State == "up"
		}
		return up
	}
	eventually(t, 10*time.Second, func() error {
		if up := accepted(); up != [2]bool{true, true} {
			return fmt.Errorf("up: %v", up)
		}
		return nil
	})
	var tried report.Try
	must(t, bus(t, r).Call(t.Context(), "braid", "try", table{"section": table{".type": "converter", ".name": "isp", ".anonymous": false, "srv": "isp.example"}}, &tried))
	if tried.State != "up" {
		t.Errorf("tried: %+v", tried)
	}
	must(t, first.Signal(syscall.SIGSTOP)) // nobody but this one is asked first
	if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4); rep.FirstByte < 900*time.Millisecond {
		t.Errorf("the first of two was not tried first: %v", rep)
	}
	first.Kill()
	eventually(t, 10*time.Second, func() error {
		if c := counted(t, r, func() { transfer(t, fromHost(r, lab.Server4, speaker), traffic.Download, 1e5) }); c.Convert != 1 {
			return fmt.Errorf("carried otherwise: %+v", c)
		}
		return nil
	})
}
