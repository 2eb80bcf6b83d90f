// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
	"braid/agent/netstate"
)

func prefixes(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }

// The rules of a household; the packet filter's own tests show that it takes
// them the same way.
var household = Firewall{Rules: []FirewallRule{
	{Section: "mac", MACs: []config.MAC{{1}}, Proto: config.ProtoAny, Path: config.PathReject},
	{Section: "voice", Proto: config.ProtoUDP, Path: config.PathReject},
	{Section: "bank", Dests: prefixes("203.0.113.0/24"), Ports: []config.PortRange{{First: 443, Last: 444}}, Proto: config.ProtoTCP, Path: config.PathDirect},
	{Section: "work", Name: "work0", Dests: prefixes("192.0.2.0/25"), Domains: []string{"bank.example"}, Proto: config.ProtoAny, Path: config.PathAuto},
	{Section: "kid", Sources: prefixes("192.168.1.66/32"), MACs: []config.MAC{{2}}, Proto: config.ProtoAny, Path: config.PathPass},
	{Section: "all", Dests: prefixes("0.0.0.0/0"), Proto: config.ProtoAny, Path: config.PathConvert},
	{Section: "never", Proto: config.ProtoTCP, Path: config.PathReject},
}}

func TestMatch(t *testing.T) {
	in := func(string) (bool, error) { return false, nil }
	for _, tt := range []struct {
		src, dest string
		want      string
		proto     config.Proto
	}{
		{"192.168.1.20", "203.0.113.7:443", "voice", config.ProtoUDP},
		{"192.168.1.66", "192.0.2.80:443", "kid", config.ProtoICMP},
		{"192.168.1.20", "192.0.2.80:443", "all", config.ProtoICMP},
		{"192.168.1.20", "203.0.113.7:443", "bank", config.ProtoTCP},
		{"192.168.1.20", "203.0.113.7:444", "bank", config.ProtoTCP},
		{"192.168.1.20", "203.0.113.7:445", "all", config.ProtoTCP},
		{"192.168.1.66", "203.0.113.7:443", "bank", config.ProtoTCP},
		{"192.168.1.66", "192.0.2.80:443", "kid", config.ProtoTCP},
		{"192.168.1.20", "192.0.2.80:443", "all", config.ProtoTCP},
		{"", "192.0.2.80:443", "all", config.ProtoTCP},
		{"", "[2001:db8::1]:443", "never", config.ProtoTCP},
	} {
		var src netip.Addr
		if tt.src != "" {
			src = netip.MustParseAddr(tt.src)
		}
		if r, err := household.Match(src, netip.MustParseAddrPort(tt.dest), tt.proto, in); err != nil || r == nil || r.Section != tt.want {
			t.Errorf("%s to %s: rule %+v, %v, want %q", tt.src, tt.dest, r, err, tt.want)
		}
	}
	if r, err := new(Firewall).Match(netip.Addr{}, netip.MustParseAddrPort("192.0.2.80:443"), config.ProtoTCP, in); r != nil || err != nil {
		t.Errorf("without rules: %+v, %v", r, err)
	}
}

func TestMatchDomains(t *testing.T) {
	in := func(rule string) (bool, error) {
		if rule != "work0" {
			t.Errorf("rule %s has no domains", rule)
		}
		return true, nil
	}
	for dest, want := range map[string]string{"192.0.2.80:443": "work", "192.0.2.200:443": "all"} {
		if r, err := household.Match(netip.Addr{}, netip.MustParseAddrPort(dest), config.ProtoTCP, in); err != nil || r == nil || r.Section != want {
			t.Errorf("%s: rule %+v, %v, want %q", dest, r, err, want)
		}
	}
	lost := errors.New("no answer")
	unknown := func(string) (bool, error) { return false, lost }
	if r, err := household.Match(netip.Addr{}, netip.MustParseAddrPort("192.0.2.80:443"), config.ProtoTCP, unknown); r != nil || !errors.Is(err, lost) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPathRules(t *testing.T) {
	want := []FirewallRule{household.Rules[0], household.Rules[2], household.Rules[3], household.Rules[4], household.Rules[5]}
	for i, p := range []config.Path{config.PathAuto, config.PathDirect, config.PathAuto, config.PathAuto, config.PathConvert} {
		want[i].Proto, want[i].Path = config.ProtoTCP, p
	}
	before := slices.Clone(household.Rules)
	if d := cmp.Diff(want, household.PathRules(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if !reflect.DeepEqual(before, household.Rules) {
		t.Errorf("the rules have changed: %+v", household.Rules)
	}
	none := Firewall{Rules: household.Rules[:2]}
	if rules := none.PathRules(); len(rules) != 0 {
		t.Errorf("%+v", rules)
	}
}

func TestSelects(t *testing.T) {
	src, dest := netip.MustParseAddr("192.168.1.20"), netip.MustParseAddrPort("203.0.113.7:443")
	for _, tt := range []struct {
		name     string
		selector Selector
		proto    config.Proto
		want     bool
	}{
		{"all", Selector{}, config.ProtoICMP, true},
		{"the host", Selector{Source: netip.MustParsePrefix("192.168.1.20/32")}, config.ProtoTCP, true},
		{"another", Selector{Source: netip.MustParsePrefix("192.168.1.21/32")}, config.ProtoTCP, false},
		{"where to", Selector{Dest: netip.MustParsePrefix("203.0.113.0/24")}, config.ProtoUDP, true},
		{"where else", Selector{Dest: netip.MustParsePrefix("203.0.112.0/24")}, config.ProtoUDP, false},
		{"by a device", Selector{In: "br-guest"}, config.ProtoTCP, false},
		{"protocol", Selector{Proto: 6}, config.ProtoTCP, true},
		{"another protocol", Selector{Proto: 17}, config.ProtoTCP, false},
		{"port", Selector{Port: netstate.Ports{First: 400, Last: 443}}, config.ProtoUDP, true},
		{"another port", Selector{Port: netstate.Ports{First: 444, Last: 500}}, config.ProtoUDP, false},
		{"no port", Selector{Port: netstate.Ports{First: 1, Last: 65535}}, config.ProtoICMP, false},
	} {
		if got := tt.selector.Selects(src, dest, tt.proto); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
