// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// filterPath makes both access networks treat what they forward by a rule,
// and tells how many packets it has met.
func filterPath(t *testing.T, r *rig.Rig, rule string) (met func() int) {
	t.Helper()
	for _, w := range r.WANs {
		nft(t, w.Router, `table inet middlebox {
			chain forward {
				type filter hook forward priority mangle
				`+rule+`
			}
		}`)
	}
	packets := regexp.MustCompile(`packets (\d+)`)
	return func() (n int) {
		for _, w := range r.WANs {
			for _, m := range packets.FindAllStringSubmatch(sh(t, w.Router, "nft list table inet middlebox"), -1) {
				k, err := strconv.Atoi(m[1])
				must(t, err)
				n += k
			}
		}
		return n
	}
}

// Some carriers remove MPTCP's options: then it is plain TCP to the converter.
func TestMPTCPStripped(t *testing.T) {
	r := start(t, rig.Options{})
	met := filterPath(t, r, "tcp option mptcp exists counter reset tcp option mptcp")
	c := counted(t, r, func() {
		for range 3 { // the first without, the others with data in the SYN
			transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e6)
		}
	})
	if met() == 0 {
		t.Error("no option was stripped")
	}
	if c.Convert != 3 || c.TCPFallback != 3 {
		t.Errorf("the agent counted %+v", c)
	}
}

// A firewall on the path drops SYNs that carry data: what is tried again
// without must not be tried for ever.
func TestSYNDataDropped(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) // has the cookie now
	met := filterPath(t, r, "tcp flags & (syn | ack) == syn meta length > 100 counter drop")
	c := counted(t, r, func() {
		for range 4 {
			rep := transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
			if rep.FirstByte > 5*time.Second {
				t.Errorf("first byte after %v", rep.FirstByte)
			}
		}
	})
	dropped := met()
	if dropped == 0 {
		t.Fatal("no SYN was dropped")
	}
	if c.Total != 4 || c.Convert+c.Direct != 4 {
		t.Errorf("the agent counted %+v", c)
	}
	rep := transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
	if n := met() - dropped; n != 0 || rep.FirstByte > 500*time.Millisecond {
		t.Errorf("still tried: %d SYNs dropped, first byte after %v", n, rep.FirstByte)
	}
}

func TestConverterWithoutMPTCP(t *testing.T) {
	r := start(t, rig.Options{Idle: true})
	must(t, r.Converter.Sysctl("net.mptcp.enabled", "0"))
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	c := counted(t, r, func() {
		for range 3 {
			transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e6)
		}
	})
	if c.Convert != 3 || c.TCPFallback != 3 {
		t.Errorf("the agent counted %+v", c)
	}
	if n := metric(t, r, "braid_mcp_accepted_tcp_total"); n < 3 {
		t.Errorf("the converter has seen %v connections without MPTCP", n)
	}
}
