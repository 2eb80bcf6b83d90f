// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
)

// fw4 is what OpenWrt's firewall makes of a zone lan, a zone wan with fibre in it, and forwarding from
// one to the other.
const fw4 = `table inet fw4 {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state vmap { established : accept, related : accept }
		iifname "lan0" jump forward_lan
		iifname "fibre" jump forward_wan
		jump handle_reject
	}
	chain forward_lan {
		jump accept_to_wan
		jump accept_to_lan
	}
	chain forward_wan {
		jump reject_to_wan
	}
	chain accept_to_wan {
		meta nfproto ipv4 oifname "fibre" ct state invalid counter drop
		oifname "fibre" counter accept
	}
	chain accept_to_lan {
		oifname "lan0" counter accept
	}
	chain reject_to_wan {
		oifname "fibre" counter goto handle_reject
	}
	chain handle_reject {
		meta l4proto tcp reject with tcp reset
		reject with icmpx port-unreachable
	}
}`

const firewallUCI = `
config zone
	option name 'lan'
	list network 'lan'
	option input 'ACCEPT'
	option output 'ACCEPT'
	option forward 'ACCEPT'

config zone
	option name 'wan'
	list network 'wan'
	option input 'REJECT'
	option output 'ACCEPT'
	option forward 'REJECT'
	option masq '1'

config forwarding
	option src 'lan'
	option dest 'wan'
`

// A WAN that is in no zone of the firewall's gets no flows from the LAN, and is named.
func TestHouseWithWANInNoZone(t *testing.T) {
	h := newHouse(t, lab.Options{}, bondUCI)
	must(t, os.WriteFile(filepath.Join(h.UCI, "firewall"), []byte(firewallUCI), 0o644))
	nft(t, h.Gateway, fw4)
	h.leaves(t, allBy(h.Host(), "fibre"))
	h.netifd(t, netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "qmi"))
	h.moveIn(t, "fibre", "lte")
	h.leaves(t, ways{from: h.Host(), udp: []string{"fibre"}, tcp: taken})
	h.told(t, "lte")
	// Put into the zone it is like the other.
	must(t, os.WriteFile(filepath.Join(h.UCI, "firewall"), []byte(firewallUCI+"\nconfig zone\n\toption name 'wan2'\n\tlist network 'wwan'\n\toption masq '1'\n\n"+
		"config forwarding\n\toption src 'lan'\n\toption dest 'wan2'\n"), 0o644))
	nft(t, h.Gateway, `insert rule inet fw4 forward_lan oifname "lte" counter accept`)
	h.barred(t, "lte", false)
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
	// And when the whole firewall is made anew, as it is at each reload, without it again.
	nft(t, h.Gateway, "delete table inet fw4\n"+fw4)
	h.barred(t, "lte", true)
	h.leaves(t, ways{from: h.Host(), udp: []string{"fibre"}, tcp: taken})
}

// barred waits until the agent knows whether the firewall lets flows of the LAN's out over a WAN.
func (h house) barred(t *testing.T, wan string, want bool) {
	t.Helper()
	began := time.Now()
	eventually(t, 3*time.Second, func() error {
		barred := slices.ContainsFunc(status(t, h.Rig).Problems, func(p report.Problem) bool { return strings.Contains(p.Section, wan) })
		if barred != want {
			return fmt.Errorf("barred: %v", barred)
		}
		return nil
	})
	t.Logf("seen after %v", time.Since(began))
}

// Whoever keeps the LAN from a WAN, and however, keeps flows from it: as soon as nothing new is let
// through, of one family or both.
func TestHouseWithForbiddenWAN(t *testing.T) {
	only4, only6 := ways{only: 4}, ways{only: 6}
	for _, tt := range []struct {
		name, script string
		v4, v6       []string
	}{
		{"all but one", `nft 'table inet guard { chain forward { type filter hook forward priority filter - 10; iifname lan0 oifname != { "fibre", "lan0" } drop; }; }'`,
			[]string{"fibre"}, []string{"fibre"}},
		{"one family", `nft 'table inet guard { chain forward { type filter hook forward priority filter; iifname lan0 oifname lte meta nfproto ipv6 reject; }; }'`,
			bothWANs, []string{"fibre"}},
		{"a verdict map", `nft 'table inet guard { chain zone { reject; }; chain forward { type filter hook forward priority filter; ct state established accept; oifname vmap { "lte" : jump zone, "fibre" : accept }; }; }'`,
			[]string{"fibre"}, []string{"fibre"}},
		{"iptables", `iptables -P FORWARD DROP
			iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
			iptables -A FORWARD -i lan0 -o fibre -j ACCEPT`,
			[]string{"fibre"}, bothWANs},
		{"one host", `nft 'table inet guard { chain forward { type filter hook forward priority filter; ip saddr 192.168.1.99 oifname lte drop; tcp dport 25 oifname lte drop; }; }'`,
			bothWANs, bothWANs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, lab.Options{}, rig.DefaultUCI)
			sh(t, h.Gateway, tt.script)
			h.leaves(t, allBy(h.Host(), "fibre"))
			h.moveIn(t, "fibre", "lte")
			v4, v6 := only4, only6
			v4.from, v4.udp, v4.tcp = h.Host(), tt.v4, taken
			v6.from, v6.udp, v6.tcp = h.Host(), tt.v6, taken
			h.leaves(t, v4, v6)
		})
	}
}

// Guests are not the LAN: what is theirs is forwarded as without braid.
func TestHouseWithGuests(t *testing.T) {
	h := newHouse(t, lab.Options{Hosts: 2}, rig.DefaultUCI)
	guest := h.Hosts[1]
	attach(t, h.Rig, guest, "guest", "192.168.3.1/24", "192.168.3.20/24")
	sh(t, guest, "ip route replace default via 192.168.3.1")
	v4 := allBy(guest, "fibre")
	v4.only = 4
	h.leaves(t, v4)
	h.moveIn(t, "fibre", "lte")
	notTaken(t, h.Rig, func() { h.leaves(t, v4) })
	h.leaves(t, ways{from: h.Host(), udp: bothWANs, tcp: taken})
}
