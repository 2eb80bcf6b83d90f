// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/agent/config"
	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// wantedRules go by what only the packet filter sees, names and hardware
// addresses, and the last one by what anybody does.
const wantedRules = `
config rule 'work'
	list domain 'work.example'

config rule 'video'
	list domain 'video.example'
	option path 'direct'

config rule 'console'
	list src 'MAC'
	list dest '192.0.2.83'
	list dest '2001:db8:80::102'
	option path 'direct'

config rule 'laptop'
	list src 'MAC'
	list dest '192.0.2.84'
	list dest '2001:db8:80::103'
	option path 'convert'

config rule 'stranger'
	list src '02:00:00:00:00:99'
	option path 'convert'

config rule 'rest'
	list dest '192.0.2.80/28'
	list dest '2001:db8:80::/64'
	list dest_port '8080'
	option path 'direct'
`

// Every rule says how its connections are carried, in the order of the rules,
// whatever it goes by: names, hardware addresses, addresses.
func TestRulePaths(t *testing.T) {
	for _, b := range backends {
		for _, accept := range []string{"early", "late"} {
			t.Run(b+", "+accept, func(t *testing.T) { testRulePaths(t, backend(t, b, withGlobals("option accept '"+accept+"'"))) })
		}
	}
}

func testRulePaths(t *testing.T, uci string) {
	r := start(t, rig.Options{Idle: true})
	mac := sh(t, r.Host(), "cat /sys/class/net/eth0/address")
	must(t, r.WriteUCI(uci+strings.ReplaceAll(wantedRules, "MAC", mac)))
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	all4, all6 := servers(t, r, 8)
	serveMPTCP(t, r)
	dnsmasq(t, r.Server, "--address=/other.example/192.0.2.88 --address=/work.example/192.0.2.81 --address=/video.example/192.0.2.82")
	sets := []string{"--nftset=/work.example/4#inet#braid#rule_work_4", "--nftset=/video.example/4#inet#braid#rule_video_4"}
	if status(t, r).Firewall == "iptables" {
		sets = []string{"--ipset=/work.example/braid_work_4", "--ipset=/video.example/braid_video_4"}
	}
	dnsmasq(t, r.Gateway, "--server=192.0.2.80 "+strings.Join(sets, " "))
	eventually(t, 5*time.Second, func() error {
		_, err := lookup(t, r, "other")
		return err
	})
	for _, name := range []string{"www.work", "video"} {
		_, err := lookup(t, r, name)
		must(t, err)
	}

	carried := func(to netip.Addr, port uint16, want ...config.Path) {
		t.Helper()
		for i, w := range want {
			relayed := metric(t, r, "braid_mcp_relayed_total")
			c := counted(t, r, func() { transfer(t, fromNode(r, r.Host(), to, port), traffic.Echo, 1e5) })
			relayed = metric(t, r, "braid_mcp_relayed_total") - relayed
			if w == config.PathConvert && (c.Convert != 1 || c.Direct != 0 || relayed != 1) ||
				w == config.PathDirect && (c.Convert != 0 || c.Direct != 1 || relayed != 0) {
				t.Errorf("connection %d to %v port %d: the agent counted %+v, the converter %v; want %s", i, to, port, c, relayed, w)
			}
		}
	}
	// What braid decides by itself is to convert, until it knows that the server
	// speaks MPTCP.
	const auto, convert, direct = config.PathConvert, config.PathConvert, config.PathDirect
	carried(all4[0], rig.Port, auto, auto)
	carried(all4[0], speaker, auto, direct)
	carried(all4[1], rig.Port, direct)
	carried(all4[2], rig.Port, direct)
	carried(all6[2], rig.Port, direct)
	carried(all4[3], speaker, convert, convert, convert)
	carried(all6[3], speaker, convert, convert, convert)
	carried(all4[4], rig.Port, direct)
	carried(all6[4], rig.Port, direct)
	carried(all4[4], speaker, auto, direct)

	for to, want := range map[netip.Addr]report.Explanation{
		all4[0]: {Path: config.PathConvert, Rule: "work", Reason: "the server does not speak MPTCP"},
		all4[1]: {Path: config.PathDirect, Rule: "video", Reason: "rule video says so"},
		all4[4]: {Path: config.PathDirect, Rule: "rest", Reason: "rule rest says so"},
	} {
		var got report.Explanation
		out, err := r.Braid("explain", netip.AddrPortFrom(to, rig.Port).String(), "-json")
		must(t, err)
		must(t, json.Unmarshal(out, &got))
		if got.Path != want.Path || got.Rule != want.Rule || got.Reason != want.Reason {
			t.Errorf("%v is explained by %+v, want %+v", to, got, want)
		}
	}

	// A SYN that is sent again belongs to the handshake under way, one of the
	// same ports as a connection that has just ended to a new connection.
	t.Run("lost handshake", func(t *testing.T) {
		nft(t, r.Host(), "table inet loss {\n chain c {\n type filter hook input priority 0\n tcp flags syn,ack / syn,ack numgen inc mod 3 < 2 counter drop\n }\n}")
		defer sh(t, r.Host(), "nft delete table inet loss")
		carried(all4[2], rig.Port, direct)
		if n := sh(t, r.Host(), "nft list table inet loss"); strings.Contains(n, "packets 0 ") || strings.Contains(n, "packets 1 ") {
			t.Errorf("lost: %s", n)
		}
	})
	t.Run("ports again", func(t *testing.T) {
		l := listen(t, r.Server, 8090)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("x"))
				c.Close()
			}
		}()
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(lab.Host4, 20404))}
		d.SetMultipathTCP(false)
		c := counted(t, r, func() {
			for range 3 {
				conn, err := r.Host().Dial(t.Context(), d, "tcp", netip.AddrPortFrom(all4[2], 8090).String())
				must(t, err)
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				if got, err := io.ReadAll(conn); string(got) != "x" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				conn.Close()
				eventually(t, 5*time.Second, func() error {
					if len(connections(t, r)) != 0 {
						return errors.New("it is still open")
					}
					return nil
				})
			}
		})
		if c.Total != 3 || c.Direct != 3 {
			t.Errorf("the agent counted %+v", c)
		}
	})
}
