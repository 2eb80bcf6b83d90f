// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/plan"
	"braid/onpath/nft"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var example = plan.Firewall{
	LANDevices: []string{"lan0", "br-guest"},
	WANs: []plan.FirewallWAN{
		{Devices: []string{"fibre"}, Mark: 1 << 24, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.2")}},
		{Devices: []string{"lte"}, Mark: 2 << 24, Translate: []plan.Translation{
			{Device: "lte", From: netip.MustParsePrefix("2001:db8:1::/64")},
			{Device: "lte", From: netip.MustParsePrefix("2001:db8:2::/64"), To: netip.MustParsePrefix("2001:db8:c::/64")},
		}},
	},
	LAN:        []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")},
	Access:     []netip.Prefix{netip.MustParsePrefix("192.168.8.0/24")},
	Converters: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("2001:db8:10::10")},
	CLATs:      []plan.CLAT{{Device: "braid-clat2", Inner: netip.MustParseAddr("fd62:7261:6964::c000:2")}},
	Ports:      plan.Ports{5125, 5126, 5127},
	Helped:     []config.PortRange{{First: 1723, Last: 1723}, {First: 1720, Last: 1730}},
	PassMPTCP:  true,
	Extend:     &plan.Extend{Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")}},
	BlockQUIC:  true,
	IPsec:      true,
	Rules: []plan.FirewallRule{
		{Name: "bank", Domains: []string{"bank.example"}, Proto: config.ProtoAny, Path: config.PathPass, Mark: 2 << 24},
		{
			Name: "games", Proto: config.ProtoAny, Path: config.PathReject,
			Sources: []netip.Prefix{netip.MustParsePrefix("192.168.1.20/32"), netip.MustParsePrefix("192.168.0.0/16")},
			MACs:    []config.MAC{{2, 0, 0, 0, 0, 1}}, Dests: []netip.Prefix{netip.MustParsePrefix("2001:db8:80::/64")},
			Ports: []config.PortRange{{First: 443, Last: 443}, {First: 1000, Last: 2000}},
		},
		{Name: "ping", Proto: config.ProtoICMP, Path: config.PathPass, Mark: 1 << 24},
		{Name: "tv", Proto: config.ProtoAny, Path: config.PathDirect, MACs: []config.MAC{{2, 0, 0, 0, 0, 2}}},
		{Name: "rest", Proto: config.ProtoAny, Path: config.PathConvert},
	},
	Crowd: []netip.Addr{netip.MustParseAddr("192.168.1.66"), netip.MustParseAddr("fd00::66")},
	Dead:  []plan.DeadLeg{{Device: "lte"}, {Device: "lte", IPv6: true}, {Device: "fibre", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")}}},
	IPv4: plan.FirewallFamily{Take: true, Kept: []plan.Kept{
		{Host: netip.MustParseAddr("192.168.1.20"), Server: netip.MustParseAddr("192.0.2.80"), Mark: 2 << 24},
		{Host: netip.MustParseAddr("192.168.1.21"), Server: netip.MustParseAddr("192.0.2.80"), Mark: 1 << 24},
	}, Shares: []plan.Share{{Mark: 1 << 24, Weight: 100, Usable: true}, {Mark: 2 << 24, Weight: 50, Usable: true}, {Mark: 3 << 24, Weight: 50}}, Guests: []plan.Selector{
		{Source: netip.MustParsePrefix("192.168.1.50/32")}, {In: "br-guest", Dest: netip.MustParsePrefix("203.0.113.0/24")},
	}},
	IPv6: plan.FirewallFamily{Take: true, Kept: []plan.Kept{{Host: netip.MustParseAddr("2001:db8:1::20"), Server: netip.MustParseAddr("2001:db8:80::80"), Mark: 1 << 24}}, Shares: []plan.Share{{Mark: 2 << 24, Weight: 100, Usable: true}}, Spared: []string{"lte"}, Guests: []plan.Selector{
		{In: "br-guest"}, {Proto: 6, Port: netstate.Ports{First: 25, Last: 25}}, {Port: netstate.Ports{First: 500, Last: 4500}}, {Proto: 47},
	}},
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestApply(t *testing.T) {
	if err := Available(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, "add", "table", "inet", "fw4")
	before := run(t, "list", "ruleset")
	var f Filter
	var ruleset nft.Ruleset
	apply := func(p *plan.Firewall, changes bool) {
		t.Helper()
		old, err := ruleset.Generation()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Apply(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if now, _ := ruleset.Generation(); (now != old) != changes {
			t.Errorf("generation %d -> %d, want a change: %v", old, now, changes)
		}
	}
	apply(&example, true)
	ours := run(t, "list", "ruleset")
	for _, want := range []string{"table inet braid", "table ip braid", "table ip6 braid", `"br-guest"`, "192.0.2.10", "tproxy ip6 to [::1]:5125", "tproxy ip to 127.0.0.1:5127", "dnat ip to", "chain extend_up_end_ip6", "log group 7000"} {
		if !strings.Contains(ours, want) {
			t.Errorf("no %q in\n%s", want, ours)
		}
	}
	apply(&example, false)
	drain := example
	drain.Drain = true
	apply(&drain, true)
	drained := run(t, "list", "ruleset")
	if strings.Contains(drained, "nfproto @alive") || !strings.Contains(drained, "socket transparent 1") {
		t.Errorf("what is to intercept nothing but keep what is open:\n%s", drained)
	}
	apply(&example, true)
	// Another table's change is none of our business.
	run(t, "add", "chain", "inet", "fw4", "input")
	run(t, "delete", "chain", "inet", "fw4", "input")
	apply(&example, false)
	for _, harm := range []string{"delete table ip6 braid", "flush chain inet braid forward", "flush ruleset"} {
		run(t, harm)
		apply(&example, true)
		if got := run(t, "list", "ruleset"); harm != "flush ruleset" && got != ours {
			t.Errorf("after %q:\n%s", harm, got)
		}
	}
	run(t, "add", "table", "inet", "fw4")
	less := example
	less.Dead = nil
	less.WANs, less.Rules, less.IPv4.Shares, less.IPv6 = less.WANs[:1], less.Rules[:1], nil, plan.FirewallFamily{Left: true}
	less.Rules = []plan.FirewallRule{{Name: "bank", Domains: []string{"bank.example"}, Proto: config.ProtoAny, Path: config.PathPass}}
	run(t, "add", "element", "inet", "braid", "extend_known_ip", "{ 192.168.1.20 . 1 . 192.0.2.80 . 443 }")
	run(t, "add", "element", "inet", "braid", "extend_to_ip", "{ 45000 : 192.0.2.80 . 443 }")
	apply(&less, true)
	for _, kept := range []string{"192.168.1.20 . 1 . 192.0.2.80 . 443", "45000 : 192.0.2.80 . 443"} {
		if got := run(t, "list", "ruleset"); !strings.Contains(got, kept) {
			t.Errorf("%s is lost:\n%s", kept, got)
		}
	}
	less.Extend = nil
	run(t, "add", "element", "inet", "braid", "rule_bank_4", "{ 192.0.2.1 }")
	apply(&less, true)
	got := run(t, "list", "ruleset")
	for _, gone := range []string{`"lte"`, "chain wan2", "2001:db8:80::", "extend"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there:\n%s", gone, got)
		}
	}
	if !strings.Contains(got, "elements = { 192.0.2.1 }") {
		t.Errorf("the domain's address is lost:\n%s", got)
	}
	for _, tt := range []struct {
		rule, addr string
		want       bool
	}{{"bank", "192.0.2.1", true}, {"bank", "192.0.2.2", false}, {"bank", "2001:db8::1", false}, {"none", "192.0.2.1", false}} {
		if in, err := InDomains(t.Context(), tt.rule, netip.MustParseAddr(tt.addr)); in != tt.want || err != nil {
			t.Errorf("rule %s has %s: %v, %v", tt.rule, tt.addr, in, err)
		}
	}
	less.Rules = nil
	apply(&less, true)
	if got := run(t, "list", "ruleset"); strings.Contains(got, "rule_bank") {
		t.Errorf("the rule's sets are still there:\n%s", got)
	}
	// An agent of another version left chains of the same names.
	run(t, "flush", "ruleset")
	run(t, "add", "table", "inet", "fw4")
	run(t, "add", "table", "inet", "braid")
	run(t, "add", "chain", "inet", "braid", "forward", "{ type filter hook forward priority 7; }")
	apply(&less, true)
	// A new agent takes over what a killed one left.
	f = Filter{}
	apply(&example, true)
	f = Filter{}
	apply(nil, true)
	if got := run(t, "list", "ruleset"); got != before {
		t.Errorf("left behind:\n%s", got)
	}
	apply(nil, false)
}

func TestError(t *testing.T) {
	var f Filter
	bad := example
	bad.LANDevices = []string{"a name too long for a device"}
	if err := f.Apply(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "running nft: exit status 1: ") {
		t.Errorf("error %v", err)
	}
}
