// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/plan"
)

// What a modem and a quota make of a line: whether it is used, where subflows
// start, and who is probed.
func TestCellular(t *testing.T) {
	const uci = `
config wan 'fibre'
	option device 'fibre'
config wan 'lte'
	option device 'lte'
	option kind 'cellular'
	option role 'bond'
%s
config wan 'spare'
	option device 'spare'
	option role 'backup'
config converter 'mcp'
	list address '192.0.2.10'
`
	const network = `
link lo loopback 127.0.0.1/8?
link lan0 bridge 192.168.1.1/24
link fibre device 198.51.100.2/24 via 198.51.100.1
link lte wwan 100.64.0.2/30 via 100.64.0.1
link spare wwan 100.65.0.2/30 via 100.65.0.1
`
	const allBut = "dead fibre ipv4 x\ndead spare ipv4 x\n"
	for _, tt := range []struct {
		name, options, network string
		fibre, lte             string // role, what it is, reason
		mtu                    int    // of the way over lte
	}{
		{"at home", "", "modem lte 1500", "primary endpoint probed", "bond endpoint probed", 0},
		{"no modem", "", "", "primary endpoint probed", "bond endpoint probed", 0},
		{"roaming", "", "modem lte roaming", "primary endpoint probed", "off: roaming with Acme", 0},
		{"roaming is allowed", "option roaming '1'", "modem lte roaming", "primary endpoint probed", "bond endpoint probed", 0},
		{"roaming, and alone", "", "modem lte roaming\n" + allBut, "primary probed: x", "off: roaming with Acme", 0},
		{"denied", "", "modem lte denied", "primary endpoint probed", "bond probed: registration denied", 0},
		{"denied a while ago", "", "modem lte denied-uqmi", "primary endpoint probed", "bond endpoint probed", 0},
		{"denied, and taken down for that", "", "modem lte denied-uqmi\ndead lte ipv4 registration denied, and has to prove itself", "primary endpoint probed",
			"bond probed: registration denied, and has to prove itself", 0},
		{"denied, and dead", "", "modem lte denied-uqmi\ndead lte ipv4 x", "primary endpoint probed", "bond probed: registration denied, x", 0},
		{"a smaller MTU", "", "modem lte 1420", "primary endpoint probed", "bond endpoint probed", 1420},
		{"a larger MTU", "", "modem lte 9000", "primary endpoint probed", "bond endpoint probed", 0},
		{"spent", "option quota '1'", "spent lte", "primary endpoint probed", "backup idle: its quota is used up", 0},
		{"spent, and off", "option quota '1'\noption quota_action 'off'", "spent lte", "primary endpoint probed", "off: its quota is used up", 0},
		{"spent, and the first line is dead", "option quota '1'", "spent lte\ndead fibre ipv4 x", "primary probed: x", "backup idle: its quota is used up", 0},
		{"spent, and alone", "option quota '1'", "spent lte\n" + allBut, "primary probed: x", "primary endpoint probed: stands in for the primary", 0},
		{"spent, and nobody knows", "option quota '1'", "spent lte\nunheard fibre ipv4\ndead spare ipv4 x", "primary endpoint probed", "backup probed: its quota is used up", 0},
		{"spent, and nobody knows of one", "option quota '1'", "spent lte\nunheard fibre ipv4", "primary endpoint probed", "backup idle: its quota is used up", 0},
		{"spent, off and alone", "option quota '1'\noption quota_action 'off'", "spent lte\n" + allBut, "primary probed: x", "off: its quota is used up", 0},
		{"spent, and nothing works", "option quota '1'", "spent lte\ndead lte ipv4 y\n" + allBut, "primary probed: x", "backup probed: y", 0},
		{"spent and roaming", "option quota '1'", "spent lte\nmodem lte roaming", "primary endpoint probed", "off: roaming with Acme", 0},
		{"switched off", "option quota '1'", "set lte off\nspent lte\nmodem lte roaming", "primary endpoint probed", "off: switched off", 0},
		{"a role that is set does not pay", "", "set lte primary\nmodem lte roaming", "primary endpoint probed: stands in for the primary", "off: roaming with Acme", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := plan.Input{Ports: plan.Ports{5125, 5126, 5127}, Config: parse(t, fmt.Sprintf(uci, tt.options))}
			if err := readNetwork(&in, network+tt.network); err != nil {
				t.Fatal(err)
			}
			p, _ := plan.Make(in)
			got := make(map[string]string)
			for _, w := range p.WANs {
				got[w.Name] = sketch(p, w)
			}
			if d := cmp.Diff([]string{tt.fibre, tt.lte}, []string{got["fibre"], got["lte"]}); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			for _, r := range p.Routes {
				if want := map[int]int{plan.TableLocal + 2: tt.mtu}[r.Table]; r.Dest.Bits() == 0 && r.MTU != want {
					t.Errorf("default route of table %d has MTU %d, want %d", r.Table, r.MTU, want)
				}
			}
		})
	}
}

// Not even the NAT64 of a line is looked for whose quota is used up.
func TestSpentLineHasNoTranslator(t *testing.T) {
	in := plan.Input{Config: parse(t, "config wan 'fibre'\n\toption device 'fibre'\nconfig wan 'lte'\n\toption device 'lte'\n\toption kind 'cellular'\n\toption quota '1'\n")}
	if err := readNetwork(&in, "link fibre device 198.51.100.2/24 via 198.51.100.1\nlink lte wwan 2001:db8:c::2/64 via fe80::1\n"); err != nil {
		t.Fatal(err)
	}
	for _, spent := range []bool{false, true} {
		in.Spent["lte"] = spent
		if p, _ := plan.Make(in); (len(p.IPv6Only) == 0) != spent {
			t.Errorf("spent %v: %+v", spent, p.IPv6Only)
		}
	}
}

// sketch is a WAN in words. What is idle carries nothing, whoever looks.
func sketch(p plan.Plan, w plan.WAN) string {
	words := []string{string(w.Role)}
	add := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	add(w.Idle, "idle")
	for _, e := range p.Endpoints {
		add(e.Addr == w.Legs[0].Source, "endpoint")
	}
	for _, t := range p.Probes {
		add(t.WAN == w.Name && !t.Quiet, "probed")
	}
	for _, l := range p.Network.Legs {
		if l.WAN == w.Name && !w.Usable {
			words = append(words, "in use although it is not usable")
		}
	}
	text := strings.Join(words, " ")
	if w.Reason != "" {
		text += ": " + w.Reason
	}
	return text
}
