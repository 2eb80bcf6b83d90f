// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
