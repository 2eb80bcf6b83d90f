// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What the gateway's firewall would not forward is not carried either, and
// what it would is.
func TestFirewall(t *testing.T) {
	uci := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\tlist lan 'guest'", 1)
	r := start(t, rig.Options{Idle: true, UCI: uci, Lab: lab.Options{Hosts: 2}})
	guest := r.Hosts[1]
	attach(t, r, guest, "guest", "192.168.3.1/24", "192.168.3.20/24")
	sh(t, guest, "ip route replace default via 192.168.3.1")
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	must(t, r.StartAgent())
	mac := sh(t, r.Host(), "cat /sys/class/net/eth0/address")

	for _, tt := range []struct {
		name, rule string
		from       *lab.Node
		to         netip.Addr
		refused    bool
	}{
		{"no rule", "", r.Host(), lab.Server4, false},
		{"guest with forwarding", "", guest, lab.Server4, false},
		{"source MAC", "ether saddr " + mac + " reject with tcp reset", r.Host(), lab.Server4, true},
		{"source MAC, IPv6", "ether saddr " + mac + " reject with tcp reset", r.Host(), lab.Server6, true},
		{"another's source MAC", "ether saddr 02:00:00:00:00:99 reject with tcp reset", r.Host(), lab.Server4, false},
		{"source address", "ip saddr 192.168.1.20 reject with tcp reset", r.Host(), lab.Server4, true},
		{"destination", "ip daddr 192.0.2.80 tcp dport 8080 reject with tcp reset", r.Host(), lab.Server4, true},
		{"destination, IPv6", "ip6 daddr 2001:db8:80::80 reject with tcp reset", r.Host(), lab.Server6, true},
		{"guest without forwarding", `iifname "guest" oifname { "fibre", "lte" } reject with tcp reset`, guest, lab.Server4, true},
		{"LAN beside a guest without", `iifname "guest" reject with tcp reset`, r.Host(), lab.Server4, false},
		{"only what is allowed", "ip saddr 192.168.1.20 tcp dport 8080 accept; ct state established accept; reject with tcp reset", r.Host(), lab.Server4, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nft(t, r.Gateway, `table inet filter
				delete table inet filter
				table inet filter {
					chain forward {
						type filter hook forward priority filter
						`+strings.ReplaceAll(tt.rule, "; ", "\n")+`
					}
				}`)
			arrived := r.Server.MIB("TcpPassiveOpens")
			c := counted(t, r, func() {
				switch conn, err := dial(t, tt.from, tt.to, rig.Port); {
				case tt.refused && !errors.Is(err, syscall.ECONNREFUSED):
					t.Errorf("the host saw %v, want a refusal", err)
				case !tt.refused && err != nil:
					t.Error(err)
				case !tt.refused:
					conn.Close()
					transfer(t, r.From(tt.from, tt.to, false), traffic.Echo, 1e5)
				}
			})
			arrived = r.Server.MIB("TcpPassiveOpens") - arrived
			if tt.refused && (c.Total != 0 || arrived != 0) {
				t.Errorf("braid took %d connections, the server has %d", c.Total, arrived)
			}
			if !tt.refused && c.Convert != 2 {
				t.Errorf("the agent counted %+v", c)
			}
		})
	}
}
