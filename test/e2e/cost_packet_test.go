// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What a packet of an open connection costs in the packet filter is how many
// rules look at it, those included that do not match. What is beyond a whole number
// are the first packets of two connections.
func TestRulesOfAPacket(t *testing.T) {
	const pass = "config rule\n\toption path 'pass'\n"
	for _, tt := range []struct {
		name, uci string
		directions
	}{
		{"taken", rig.DefaultUCI, directions{fromLAN: 5.3, toLAN: 3.1}},
		{"forwarded", rig.DefaultUCI + pass, directions{fromLAN: 9.3, toLAN: 6.3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lab.Options{Veth: true}, UCI: tt.uci})
			got := rulesOfAPacket(t, r)
			t.Logf("%+v", got)
			if got.fromLAN > tt.fromLAN || got.toLAN > tt.toLAN || got.fromLAN < 1 || got.toLAN < 1 {
				t.Errorf("%.2f rules for a packet from the LAN, %.2f for one to it; want %v and %v at most", got.fromLAN, got.toLAN, tt.fromLAN, tt.toLAN)
			}
		})
	}
}

// directions are how many rules look at a packet each way.
type directions struct{ fromLAN, toLAN float64 }

// rulesOfAPacket counts while there is an upload and a download. The agent puts
// its own rules back within a second, and then it is done again.
func rulesOfAPacket(t *testing.T, r *rig.Rig) (d directions) {
	t.Helper()
	const tables = "for t in inet ip ip6; do nft list table $t braid; done"
	for range 20 {
		nft(t, r.Gateway, "delete table inet braid\ndelete table ip braid\ndelete table ip6 braid\n"+counting(sh(t, r.Gateway, tables))+`
			table inet seen
			delete table inet seen
			table inet seen {
				chain in {
					type filter hook prerouting priority raw - 10
					`+fromLAN+`
				}
				chain out {
					type filter hook postrouting priority raw - 10
					oifname "lan0" meta l4proto tcp counter comment "to the LAN"
				}
			}`)
		transfer(t, r.FromHost(lab.Server4), traffic.Upload, 20e6)
		transfer(t, r.FromHost(lab.Server4), traffic.Download, 20e6)
		rules, seen := sh(t, r.Gateway, tables), sh(t, r.Gateway, "nft list table inet seen")
		if !strings.Contains(rules, "counter") {
			continue
		}
		return directions{
			fromLAN: sumOf(t, rules, "from the LAN") / sumOf(t, seen, "from the LAN"),
			toLAN:   (sumOf(t, rules, "to the LAN") + sumOf(t, rules, "from the server")) / sumOf(t, seen, "to the LAN"),
		}
	}
	t.Fatal("the agent puts its rules back all the time")
	return d
}

// What is counted before each rule: a packet to the LAN comes from the proxy or,
// of a connection that is only forwarded, first from the server.
const (
	fromLAN    = `iifname "lan0" meta l4proto tcp counter comment "from the LAN"`
	toLAN      = `iifname != { "fibre", "lte" } oifname "lan0" meta l4proto tcp counter comment "to the LAN"`
	fromServer = `iifname { "fibre", "lte" } ip saddr 192.0.2.80 counter comment "from the server"`
)

// counting is a ruleset in which those who look at a packet are counted.
func counting(ruleset string) string {
	var b strings.Builder
	chain, family := false, ""
	for line := range strings.Lines(ruleset) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "table":
			family = f[1]
		case f[0] == "chain":
			chain = true
		case f[0] == "}":
			chain = false
		case chain && f[0] != "type":
			fmt.Fprintln(&b, fromLAN)
			fmt.Fprintln(&b, toLAN)
			if family != "ip6" {
				fmt.Fprintln(&b, fromServer)
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

var counter = regexp.MustCompile(`counter packets (\d+) bytes \d+ comment "([^"]*)"`)

// sumOf adds up the counters of a comment.
func sumOf(t *testing.T, ruleset, comment string) (sum float64) {
	t.Helper()
	for _, m := range counter.FindAllStringSubmatch(ruleset, -1) {
		if m[2] == comment {
			n, err := strconv.ParseFloat(m[1], 64)
			must(t, err)
			sum += n
		}
	}
	return sum
}
