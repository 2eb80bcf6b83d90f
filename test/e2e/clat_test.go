// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/config"
	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

const nat64 = "2001:db8:64::/96"

// v6only are the lines, the cellular one with IPv6 and a NAT64.
func v6only() lab.Options {
	o := lines()
	o.Accesses[1].V4, o.Accesses[1].NAT64 = lab.None, netip.MustParsePrefix(nat64)
	return o
}

// cellular is what the agent says of the cellular line.
func cellular(t *testing.T, r *rig.Rig) report.WAN {
	t.Helper()
	for _, w := range status(t, r).WANs {
		if w.Name == "lte" {
			return w
		}
	}
	t.Fatal("no WAN lte")
	return report.WAN{}
}

// translated waits until the cellular line has IPv4.
func translated(t *testing.T, r *rig.Rig) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		if w := cellular(t, r); w.NAT64 != nat64 || w.IPv4 != "shared" || w.State != "up" {
			return fmt.Errorf("lte is %+v", w)
		}
		return nil
	})
}

// Case 2 with NAT64: the cellular line has only IPv6, and a way to IPv4 by the
// carrier's NAT64. braid translates for its subflows, and the converter leaves
// although the server has IPv4 alone.
func TestConverterLeavesWithNAT64(t *testing.T) {
	for _, firewall := range []string{"nftables", "iptables"} {
		t.Run(firewall, func(t *testing.T) {
			uci := strings.Replace(rig.DefaultUCI, "list lan", "option firewall '"+firewall+"'\n\tlist lan", 1)
			r := start(t, rig.Options{Lab: v6only(), UCI: uci})
			translated(t, r)
			leaves(t, r)
		})
	}
}

// leaves fails unless the converter leaves after the first connection to a
// server with IPv4 alone, and both lines carry the second.
func leaves(t *testing.T, r *rig.Rig) {
	t.Helper()
	serveMPTCP(t, r)
	wantPath(t, carriedBy(t, r, lab.Server4, 4e6), config.PathConvert, 2)
	eventually(t, 5*time.Second, func() error { // bytes count once a connection is closed
		if n := metric(t, r, "braid_mcp_bytes_total"); n < 4e6 {
			return fmt.Errorf("the converter has carried %v bytes", n)
		}
		return nil
	})
	relayed, carried := metric(t, r, "braid_mcp_relayed_total"), metric(t, r, "braid_mcp_bytes_total")
	joins, down := r.Server.MIB("MPTcpExtMPJoinAckRx"), r.Link("lte").BA().Counters().Bytes
	c := carriedBy(t, r, lab.Server4, 8e6)
	wantPath(t, c, config.PathDirect, 2)
	for _, s := range c.Subflows {
		if !strings.HasPrefix(s.Remote, lab.Server4.String()+":") || s.WAN == "" {
			t.Errorf("subflow %+v", s)
		}
	}
	// One more where the line is found to take smaller packets just then.
	if got := r.Server.MIB("MPTcpExtMPJoinAckRx") - joins; got < 1 || got > 2 {
		t.Errorf("%d joins at the server, want 1", got)
	}
	if got := metric(t, r, "braid_mcp_relayed_total"); got != relayed {
		t.Errorf("the converter has carried %v connections, was %v", got, relayed)
	}
	if got := metric(t, r, "braid_mcp_bytes_total"); got != carried {
		t.Errorf("the converter has carried %v bytes, was %v", got, carried)
	}
	stop := background(t, fromHost(r, lab.Server4, speaker)) // until the line is needed, too
	eventually(t, 10*time.Second, func() error {
		if got := r.Link("lte").BA().Counters().Bytes - down; got < 1e6 {
			return fmt.Errorf("lte has carried %d bytes", got)
		}
		return nil
	})
	stop()
}

// The translator goes with the WAN and comes back with it.
func TestTranslatorFollowsWAN(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only()})
	translated(t, r)
	must(t, r.WAN("lte").SetDown())
	eventually(t, 5*time.Second, func() error {
		if devices := sh(t, r.Gateway, "ip link"); strings.Contains(devices, "braid-clat") {
			return fmt.Errorf("still there: %s", devices)
		}
		if w := cellular(t, r); w.NAT64 != "" || w.IPv4 != "none" {
			return fmt.Errorf("lte is %+v", w)
		}
		return nil
	})
	must(t, r.WAN("lte").SetUp())
	translated(t, r)
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
}

// The translator takes answers alone: a host of the LAN that pretends to be
// behind the NAT64 gets nothing through it.
func TestTranslatorTakesAnswersAlone(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only()})
	translated(t, r)
	const pretended, inner = "2001:db8:64::c000:250", "fd62:7261:6964::c000:2"
	sh(t, r.Host(), "ip addr add "+pretended+"/128 dev lo nodad")
	arrived := func() uint64 {
		before := r.Gateway.MIB("UdpNoPorts")
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(pretended)}}
		c, err := r.Host().Dial(t.Context(), d, "udp", net.JoinHostPort(inner, "5999"))
		must(t, err)
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		must(t, err)
		time.Sleep(200 * time.Millisecond)
		return r.Gateway.MIB("UdpNoPorts") - before
	}
	if n := arrived(); n != 0 {
		t.Errorf("%d datagrams came through", n)
	}
	eventually(t, 5*time.Second, func() error { // the agent repairs its rules
		sh(t, r.Gateway, "nft flush chain inet braid forward")
		if n := arrived(); n != 1 {
			return fmt.Errorf("%d datagrams came through without the rule, want 1", n)
		}
		return nil
	})
}

// What the agent has made for the translator goes with it, and the device with
// the process however that ends.
func TestTranslatorLeavesNothing(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only()})
	translated(t, r)
	must(t, r.Agent.Stop())
	for _, list := range []string{"ip addr", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all", "nft list ruleset"} {
		for _, ours := range []string{"braid-clat", "192.0.0.", "fd62:"} {
			if left := sh(t, r.Gateway, list); strings.Contains(left, ours) {
				t.Errorf("%s shows %s:\n%s", list, ours, left)
			}
		}
	}
	must(t, r.StartAgent())
	translated(t, r)
	r.Agent.Kill()
	if left := sh(t, r.Gateway, "ip addr"); strings.Contains(left, "braid-clat") {
		t.Errorf("the device is left behind:\n%s", left)
	}
	must(t, r.StartAgent())
	translated(t, r)
}

// The router's own translator, as OpenWrt's 464xlat is one: the cellular
// line's IPv4 is on another device, of which netifd tells.
func TestConverterLeavesWith464xlat(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only(), UCI: netifdUCI, Idle: true})
	conf := filepath.Join(t.TempDir(), "tayga.conf")
	must(t, os.WriteFile(conf, []byte(`
		tun-device 464-wwan_6
		ipv4-addr 192.168.254.1
		prefix `+nat64+`
		map 192.0.0.1 2001:db8:c::464
	`), 0o644))
	sh(t, r.Gateway, `tayga --config `+conf+` --mktun
		ip link set 464-wwan_6 up
		ip addr add 192.0.0.1/32 dev 464-wwan_6
		ip route add default dev 464-wwan_6 metric 2048
		ip route add 2001:db8:c::464 dev 464-wwan_6
		tayga --config `+conf+` >/dev/null 2>&1`)
	must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	failedC := make(chan error, 1)
	go func() {
		failedC <- netifd(t.Context(), r, nil, map[string]any{
			"interface": "wwan_6_4", "up": true, "proto": "464xlat", "dynamic": true, "l3_device": "464-wwan_6",
		})
	}()
	must(t, r.StartAgent())
	must(t, <-failedC)
	eventually(t, 10*time.Second, func() error {
		if w := cellular(t, r); w.NAT64 != "" || w.IPv4 != "shared" || w.State != "up" {
			return fmt.Errorf("lte is %+v", w)
		}
		return nil
	})
	leaves(t, r)
	if devices := sh(t, r.Gateway, "ip link"); strings.Contains(devices, "braid-clat") {
		t.Errorf("there is a second translator: %s", devices)
	}
}

// A host that does not forward IPv6 cannot translate, and says so.
func TestTranslatorNeedsForwarding(t *testing.T) {
	r := start(t, rig.Options{Lab: v6only()})
	translated(t, r)
	must(t, r.Gateway.Sysctl("net.ipv6.conf.all.forwarding", "0"))
	eventually(t, 5*time.Second, func() error {
		s := status(t, r)
		told := slices.ContainsFunc(s.Problems, func(p report.Problem) bool {
			return p.Section == "lte" && strings.Contains(p.Message, "net.ipv6.conf.all.forwarding")
		})
		if w := cellular(t, r); !told || w.NAT64 != "" || w.IPv4 != "none" || w.State != "up" {
			return fmt.Errorf("problems %+v, lte is %+v", s.Problems, w)
		}
		return nil
	})
	must(t, r.Gateway.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	translated(t, r)
}
