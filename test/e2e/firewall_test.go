// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What the gateway's firewall would not forward is not carried either, and
// what it would is.
func TestFirewall(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) { testFirewall(t, b) })
	}
}

func testFirewall(t *testing.T, b string) {
	uci := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\tlist lan 'guest'", 1)
	r := start(t, rig.Options{Idle: true, UCI: backend(t, b, uci), Lab: lab.Options{Hosts: 2}})
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

// What nftables does for braid, iptables does.
func TestIPTables(t *testing.T) {
	for _, b := range backends[1:] {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI), Lab: lines()})
			if s := status(t, r); s.Firewall != "iptables" {
				t.Errorf("the agent says that it uses %q", s.Firewall)
			}
			if tables := sh(t, r.Gateway, "nft list tables"); strings.Contains(tables, "braid") {
				t.Errorf("there is also a table of nftables: %s", tables)
			}
			for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
				links := linkBytes(r, traffic.Download)
				if c := counted(t, r, func() { transfer(t, r.FromHost(to), traffic.Download, 10e6) }); c.Convert != 1 || c.TCPFallback != 0 {
					t.Errorf("the agent counted %+v", c)
				}
				for i, before := range links {
					if n := linkBytes(r, traffic.Download)[i] - before; n < 1e6 {
						t.Errorf("%s carried %d bytes of 10 MB from %v", r.WANs[i].Name, n, to)
					}
				}
			}
			notTaken(t, r, func() {
				if _, err := r.Serve(r.Gateway, false, rig.Port); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Serve(r.Converter, false, rig.Port); err != nil {
					t.Fatal(err)
				}
				for _, to := range []netip.Addr{lab.Gateway4, lab.Gateway6, r.WAN("lte").Gateway4.Addr(), lab.Converter4} {
					transfer(t, r.FromHost(to), traffic.Echo, 1e5)
				}
				transfer(t, r.From(r.Host(), lab.Server4, true), traffic.Echo, 1e5) // a host that speaks MPTCP
				transfer(t, r.From(r.Gateway, lab.Server4, false), traffic.Echo, 1e5)
			})
			if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
				t.Errorf("the agent counted %+v", c)
			}
		})
	}
}

// tables shows the packet filters' rules, routing rules, our routes and the
// MPTCP endpoints, without counters and contents of sets.
func tables(t *testing.T, r *rig.Rig) string {
	t.Helper()
	return sh(t, r.Gateway, `
		nft -s -t list ruleset
		for i in iptables-legacy-save ip6tables-legacy-save; do $i | grep -v ^#; done | sed 's/ \[.*//'
		ipset list -name | sort
		ip rule; ip -6 rule
		ip -4 route show table all | sort; ip -6 route show table all | grep -v fe80 | sort
		ip mptcp endpoint`)
}

// others makes what is not braid's in the packet filters: iptables' own tables
// are there before braid, a firewall has its own chains and sets, mwan3 its
// rules.
func others(t *testing.T, r *rig.Rig) {
	t.Helper()
	sh(t, r.Gateway, `
		for i in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do
			for t in raw mangle filter nat; do
				$i -t $t -N theirs; $i -t $t -A theirs -p udp -j ACCEPT; $i -t $t -A OUTPUT -j theirs
			done
			for c in PREROUTING POSTROUTING FORWARD; do $i -t mangle -A $c -p tcp -j theirs; done
			$i -t raw -A PREROUTING -p tcp -j theirs
			$i -t nat -A POSTROUTING -p udp -j theirs
			$i -t filter -A FORWARD -p tcp -j ACCEPT
			$i -t filter -A INPUT -p tcp -j ACCEPT
		done
		ipset create theirs hash:ip
		nft add table inet fw4
		nft add chain inet fw4 forward '{ type filter hook forward priority filter; }'
		ip rule add pref 2001 fwmark 0x100/0x3f00 lookup 1
		ip rule add pref 698 fwmark 0x100 lookup main`)
}

// On every backend nothing stays behind, and nothing of others is touched.
func TestFirewallLeavesNothing(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			uci := backend(t, b, rig.DefaultUCI) + "\nconfig rule 'bank'\n\tlist domain 'bank.example'\n\toption path 'pass'\n"
			r := start(t, rig.Options{Idle: true, UCI: uci})
			others(t, r)
			must(t, r.StartMCP("-client", "0.0.0.0/0"))
			before := tables(t, r)
			for _, end := range []string{"stopped", "killed", "with another packet filter"} {
				must(t, r.WriteUCI(uci))
				must(t, r.StartAgent())
				if tables(t, r) == before {
					t.Error("braid has changed nothing")
				}
				switch end {
				case "killed":
					r.Agent.Kill()
					must(t, r.StartAgent())
				case "with another packet filter":
					r.Agent.Kill()
					other := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption firewall 'nftables'", 1)
					if b == "nftables" {
						other = strings.Replace(other, "'nftables'", "'iptables'", 1)
					}
					must(t, r.WriteUCI(other))
					must(t, r.StartAgent())
				}
				transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
				must(t, r.Agent.Stop())
				if diff := cmp.Diff(before, tables(t, r)); diff != "" {
					t.Errorf("%s: left behind (-before +now):\n%s", end, diff)
				}
			}
		})
	}
}

// Whoever deletes what is braid's, it is back within two seconds.
func TestCoexistence(t *testing.T) {
	anyway := []string{
		"for p in $(ip rule | sed -n 's/^\\(7[0-9][0-9]\\):.*/\\1/p'); do ip rule del pref $p; done",
		"ip -6 rule del pref 32765",
		"ip route flush table 7001",
		"ip -6 route flush table 7000",
		"ip mptcp endpoint flush",
		"ip mptcp endpoint del id 226",
	}
	nftables := []string{
		"nft delete table inet braid",
		"nft flush chain inet braid candidate",
		"nft delete table ip braid",
		"nft flush table inet braid",
	}
	xtables := []string{
		"iptables -t mangle -F",
		"iptables -t mangle -F BRAID_STEER",
		"iptables -t mangle -D FORWARD -j BRAID_FORWARD",
		"ip6tables -t raw -F PREROUTING",
		"iptables -F; iptables -t mangle -F; iptables -t raw -F",
	}
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI)})
			harms := slices.Concat(anyway, nftables)
			if b != "nftables" {
				harms = slices.Concat(anyway, xtables)
			}
			want := tables(t, r)
			for _, harm := range harms {
				sh(t, r.Gateway, harm)
				eventually(t, 2*time.Second, func() error {
					if diff := cmp.Diff(want, tables(t, r)); diff != "" {
						return fmt.Errorf("after %s (-want +got):\n%s", harm, diff)
					}
					return nil
				})
			}
			if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 || c.TCPFallback != 0 {
				t.Errorf("the agent counted %+v", c)
			}
		})
	}
	t.Run("nft flush ruleset", func(t *testing.T) {
		r := start(t, rig.Options{})
		theirs := sh(t, r.Gateway, "nft list table ip nat")
		want := tables(t, r)
		sh(t, r.Gateway, "nft flush ruleset")
		nft(t, r.Gateway, theirs)
		eventually(t, 2*time.Second, func() error {
			if now := tables(t, r); len(now) != len(want) {
				return fmt.Errorf("there is\n%s\nof\n%s", now, want)
			}
			return nil
		})
		transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
	})
}
