// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
