// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package route_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"braid/agent/kernel/route"
	"braid/agent/plan"
	"braid/test/netns"
)

// The namespace has two WANs and somebody else's policy routing:
//
//	eth1  192.0.2.2/24     2001:db8:1::2/64
//	eth2  198.51.100.2/32  2001:db8:2::2/64
func TestMain(m *testing.M) { netns.Main(m) }

func setUp(t *testing.T) {
	t.Helper()
	ip(t, `
		link add eth1 type veth peer name peer1
		link add eth2 type veth peer name peer2
		link set eth1 addrgenmode none
		link set eth2 addrgenmode none
		link set peer1 addrgenmode none
		link set peer2 addrgenmode none
		link set peer1 up
		link set peer2 up
		link set eth1 up
		link set eth2 up
		addr add 192.0.2.2/24 dev eth1
		addr add 2001:db8:1::2/64 dev eth1 nodad
		addr add 198.51.100.2/32 dev eth2
		addr add 2001:db8:2::2/64 dev eth2 nodad
		route add default via 192.0.2.1
		route add default dev eth2 table 6999
		route add default dev eth2 table 7064
		route add 203.0.113.0/24 dev eth1 table 52
		-6 route add default dev eth1 table 7064
		rule add pref 699 from 203.0.113.1 lookup 7001
		rule add pref 800 fwmark 0x1000000/0x1f000000 lookup 7001
		-6 rule add pref 800 lookup 7064`)
	// The kernel adds these a moment after it has heard of the carriers.
	for end := time.Now().Add(10 * time.Second); strings.Count(ip(t, "-6 route show table local type multicast"), "ff00::/8 ") < 4; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no multicast routes")
		}
	}
	t.Cleanup(func() {
		if err := route.Apply(nil, nil); err != nil {
			t.Error(err)
		}
		ip(t, `
			rule del pref 699
			rule del pref 800
			-6 rule del pref 800
			route flush table 7064
			-6 route flush table 7064`)
		for _, name := range []string{"eth1", "eth2"} {
			if l, err := netlink.LinkByName(name); err == nil {
				netlink.LinkDel(l)
			}
		}
	})
}

// ip runs ip with the arguments on each line.
func ip(t *testing.T, lines string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(lines) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		b, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", strings.TrimSpace(line), err, b)
		}
		out.Write(b)
	}
	return out.String()
}

func everything(t *testing.T) []string {
	t.Helper()
	return strings.Split(ip(t, `
		-4 rule
		-6 rule
		-4 route show table all
		-6 route show table all`), "\n")
}

// mine is what everything shows of braid.
func mine(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, l := range everything(t) {
		l = strings.Join(strings.Fields(l), " ")
		pref, isRule := strings.CutPrefix(l, "7")
		tail := strings.HasPrefix(l, "32765: ") && (strings.Contains(l, "lookup 70") || strings.Contains(l, "suppress_prefixlength"))
		if strings.Contains(l, " table 70") && !strings.Contains(l, "7064") || isRule && strings.Index(pref, ":") == 2 || tail {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return lines
}

func apply(t *testing.T, routes []plan.Route, rules []plan.Rule) {
	t.Helper()
	if err := route.Apply(routes, rules); err != nil {
		t.Fatal(err)
	}
}

func index(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

var (
	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
	gw1  = netip.MustParseAddr("192.0.2.1")
)

// both is a plan with two WANs, both families and every kind of route and rule.
func both(t *testing.T) ([]plan.Route, []plan.Rule) {
	eth1, eth2 := index(t, "eth1"), index(t, "eth2")
	return []plan.Route{
			{Table: 7000, Dest: any4, Link: 1, Local: true},
			{Table: 7000, Dest: any6, Link: 1, Local: true},
			{Table: 7001, Dest: any4, Gateway: gw1, Link: eth1},
			{Table: 7001, Dest: any6, Gateway: netip.MustParseAddr("fe80::1"), Link: eth1},
			{Table: 7002, Dest: any4, Gateway: netip.MustParseAddr("100.64.0.1"), Link: eth2},
			{Table: 7002, Dest: any6, Link: eth2},
			{Table: 7063, Dest: netip.MustParsePrefix("192.0.2.0/24"), Link: eth1},
			{Table: 7063, Dest: any4, Gateway: netip.MustParseAddr("fe80::2"), Link: eth1},
			{Table: 7063, Dest: any6, Gateway: netip.MustParseAddr("2001:db8:9::1"), Link: eth1},
		}, []plan.Rule{
			{Pref: 700, Mark: plan.MarkIntercept, Mask: plan.MarkIntercept | plan.MarkWAN, Table: 7000},
			{Pref: 700, IPv6: true, Mark: plan.MarkIntercept, Mask: plan.MarkIntercept | plan.MarkWAN, Table: 7000},
			{Pref: 701, Dest: netip.MustParsePrefix("192.168.1.1/24"), Table: plan.TableMain},
			{Pref: 710, Source: netip.MustParsePrefix("192.0.2.2/32"), Table: 7001},
			{Pref: 710, IPv6: true, Source: netip.MustParsePrefix("2001:db8:1::/64"), Table: 7001},
			{Pref: 711, Device: "eth2", Table: 7002},
			{Pref: 711, IPv6: true, Device: "eth2", Table: 7002},
			{Pref: 720, Mark: 2 << 24, Mask: plan.MarkWAN, Table: 7002},
			{Pref: 730, Mark: 0, Mask: plan.MarkWAN, Source: any4, Table: 7001},
			{Pref: 799, IPv6: true, Table: 7002},
		}
}

func TestApply(t *testing.T) {
	setUp(t)
	before := everything(t)
	routes, rules := both(t)

	apply(t, routes, rules)
	want := []string{
		"700: from all fwmark 0x20000000/0x3f000000 lookup 7000",
		"700: from all fwmark 0x20000000/0x3f000000 lookup 7000",
		"701: from all to 192.168.1.0/24 lookup main",
		"710: from 192.0.2.2 lookup 7001",
		"710: from 2001:db8:1::/64 lookup 7001",
		"711: from all oif eth2 lookup 7002",
		"711: from all oif eth2 lookup 7002",
		"720: from all fwmark 0x2000000/0x1f000000 lookup 7002",
		"730: from all fwmark 0/0x1f000000 lookup 7001",
		"799: from all lookup 7002",
		"192.0.2.0/24 dev eth1 table 7063 proto static scope link",
		"default dev eth2 table 7002 proto static metric 1024 pref medium",
		"default via 100.64.0.1 dev eth2 table 7002 proto static onlink",
		"default via 192.0.2.1 dev eth1 table 7001 proto static onlink",
		"default via 2001:db8:9::1 dev eth1 table 7063 proto static metric 1024 onlink pref medium",
		"default via fe80::1 dev eth1 table 7001 proto static metric 1024 onlink pref medium",
		"default via inet6 fe80::2 dev eth1 table 7063 proto static onlink",
		"local default dev lo table 7000 proto static metric 1024 pref medium",
		"local default dev lo table 7000 proto static scope host",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, mine(t)); diff != "" {
		t.Error(diff)
	}
	for flow, way := range map[string]string{
		"route get 203.0.113.9 from 192.0.2.2":                 "via 192.0.2.1 dev eth1 table 7001",
		"route get 203.0.113.9 mark 0x2000000":                 "via 100.64.0.1 dev eth2 table 7002",
		"route get 203.0.113.9 oif eth2":                       "via 100.64.0.1 dev eth2 table 7002",
		"route get 203.0.113.9 mark 0x20000000":                "local 203.0.113.9 dev lo table 7000",
		"-6 route get 2001:db8:f::1 from 2001:db8:1::2":        "via fe80::1 dev eth1 table 7001",
		"-6 route get 2001:db8:f::1 oif eth2":                  "dev eth2 table 7002",
		"-6 route get 2001:db8:f::1 mark 0x20000000":           "dev lo table 7000",
		"route get 192.168.1.7 from 192.0.2.2 oif eth1 mark 0": "via 192.0.2.1 dev eth1",
	} {
		if got := ip(t, flow); !strings.Contains(got, way) {
			t.Errorf("ip %s: %swant %s", flow, got, way)
		}
	}

	apply(t, nil, nil)
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
}

// changes runs change and returns the kernel's notifications of it, of routes
// and rules. The last one is of a rule of the test's own.
func changes(t *testing.T, change func()) (types []uint16) {
	t.Helper()
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	change()
	ip(t, "rule add pref 999 lookup main")
	defer ip(t, "rule del pref 999")
	for {
		msgs, _, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if m.Header.Type == unix.RTM_NEWRULE && strings.Contains(string(m.Data), "\xe7\x03\x00\x00") {
				return types
			}
			types = append(types, m.Header.Type)
		}
	}
}

// A route's own MTU is what the kernel sends by and what it tells the peer.
func TestMTU(t *testing.T) {
	setUp(t)
	for _, mtu := range []int{1420, 1300, 0} {
		routes := []plan.Route{
			{Table: 7001, Dest: any4, Gateway: gw1, Link: index(t, "eth1"), MTU: mtu},
			{Table: 7001, Dest: any6, Gateway: netip.MustParseAddr("fe80::1"), Link: index(t, "eth1"), MTU: mtu},
		}
		apply(t, routes, nil)
		if again := changes(t, func() { apply(t, routes, nil) }); len(again) > 0 {
			t.Errorf("MTU %d, applied again: %d changes", mtu, len(again))
		}
		for _, family := range []string{"", "-6 "} {
			got, want := ip(t, family+"route show table 7001"), ""
			if mtu != 0 {
				want = fmt.Sprintf(" mtu %d", mtu)
			}
			if !strings.Contains(got, want) || mtu == 0 && strings.Contains(got, "mtu") {
				t.Errorf("MTU %d: %s", mtu, got)
			}
		}
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	setUp(t)
	routes, rules := both(t)
	first := changes(t, func() { apply(t, routes, rules) })
	if n := len(routes) + len(rules); len(first) != n {
		t.Errorf("%d changes at first, want %d", len(first), n)
	}
	slices.Reverse(routes)
	slices.Reverse(rules)
	if again := changes(t, func() { apply(t, routes, rules) }); len(again) != 0 {
		t.Errorf("changes of the second Apply: %v", again)
	}

	// Nor does a lost carrier, of which the kernel tells in the routes' flags.
	ip(t, "link set peer1 down")
	for end := time.Now().Add(10 * time.Second); !slices.Contains(mine(t), "default via 192.0.2.1 dev eth1 table 7001 proto static onlink linkdown"); {
		if time.Now().After(end) {
			t.Fatal("the kernel has not noticed that the carrier is lost")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if again := changes(t, func() { apply(t, routes, rules) }); len(again) != 0 {
		t.Errorf("changes of an Apply without carrier: %v", again)
	}
}

func TestNewGatewayReplaces(t *testing.T) {
	setUp(t)
	eth1, eth2 := index(t, "eth1"), index(t, "eth2")
	def := func(dest netip.Prefix, gw string, link int) []plan.Route {
		r := plan.Route{Table: 7001, Dest: dest, Link: link}
		if gw != "" {
			r.Gateway = netip.MustParseAddr(gw)
		}
		return []plan.Route{r}
	}
	for name, step := range map[string]struct {
		from, to []plan.Route
		want     string
	}{
		"IPv4":            {def(any4, "192.0.2.1", eth1), def(any4, "192.0.2.9", eth1), "default via 192.0.2.9 dev eth1 table 7001 proto static onlink"},
		"IPv4 device":     {def(any4, "192.0.2.1", eth1), def(any4, "192.0.2.1", eth2), "default via 192.0.2.1 dev eth2 table 7001 proto static onlink"},
		"IPv4 to on-link": {def(any4, "192.0.2.1", eth1), def(any4, "", eth1), "default dev eth1 table 7001 proto static scope link"},
		"IPv6":            {def(any6, "fe80::1", eth1), def(any6, "fe80::9", eth1), "default via fe80::9 dev eth1 table 7001 proto static metric 1024 onlink pref medium"},
		"IPv6 to on-link": {def(any6, "fe80::1", eth1), def(any6, "", eth1), "default dev eth1 table 7001 proto static metric 1024 pref medium"},
		"IPv6 to gateway": {def(any6, "", eth1), def(any6, "fe80::1", eth2), "default via fe80::1 dev eth2 table 7001 proto static metric 1024 onlink pref medium"},
	} {
		t.Run(name, func(t *testing.T) {
			apply(t, nil, nil)
			apply(t, step.from, nil)
			got := changes(t, func() { apply(t, step.to, nil) })
			if diff := cmp.Diff([]uint16{unix.RTM_NEWROUTE}, got); diff != "" {
				t.Error("changes:", diff)
			}
			if diff := cmp.Diff([]string{step.want}, mine(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRulesChangeTableWithoutGap(t *testing.T) {
	setUp(t)
	apply(t, nil, []plan.Rule{{Pref: 730, Table: 7001}, {Pref: 730, IPv6: true, Table: 7001}})
	got := changes(t, func() {
		apply(t, nil, []plan.Rule{{Pref: 730, Table: 7002}, {Pref: 730, IPv6: true, Table: 7002}})
	})
	want := []uint16{unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWRULE, unix.RTM_DELRULE}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What stands in our ranges is ours, however it came there.
func TestSweep(t *testing.T) {
	setUp(t)
	before := everything(t)
	litter := func() {
		ip(t, `
			route add default via 192.0.2.9 table 7001 proto boot
			route append default via 192.0.2.8 table 7001 proto boot
			route append default via 192.0.2.1 dev eth1 table 7001 proto boot onlink
			route add default via 192.0.2.9 table 7001 metric 7
			route add 203.0.113.0/24 table 7001 nexthop via 192.0.2.7 nexthop dev eth2
			route add blackhole 203.0.114.0/24 table 7001
			route add unreachable default table 7009
			-6 route add default via 2001:db8:1::9 table 7001 metric 1024
			-6 route append default via 2001:db8:1::8 table 7001 metric 1024
			-6 route add default via 2001:db8:1::9 table 7001 metric 7
			-6 route add prohibit 2001:db8:77::/48 table 7001
			rule add pref 730 fwmark 0x5 lookup 7001
			rule add pref 730 lookup 7001
			rule add pref 730 from 192.0.2.2 lookup 7001
			rule add pref 731 iif eth1 lookup 7001
			rule add pref 732 not from 192.0.2.2 lookup 7001
			rule add pref 733 lookup main suppress_prefixlength 0
			rule add pref 734 unreachable
			rule add pref 735 ipproto tcp dport 443 lookup 7001
			-6 rule add pref 799 iif eth1 lookup 7001`)
	}
	wantRoutes := []plan.Route{
		{Table: 7001, Dest: any4, Gateway: gw1, Link: index(t, "eth1")},
		{Table: 7001, Dest: any6, Gateway: netip.MustParseAddr("fe80::1"), Link: index(t, "eth1")},
	}
	// The request that deletes the rule without selectors hits this one first.
	wantRules := []plan.Rule{{Pref: 730, Mark: 5, Mask: 0xffffffff, Table: 7001}}
	want := []string{
		"730: from all fwmark 0x5 lookup 7001",
		"default via 192.0.2.1 dev eth1 table 7001 proto static onlink",
		"default via fe80::1 dev eth1 table 7001 proto static metric 1024 onlink pref medium",
	}

	litter()
	apply(t, wantRoutes, wantRules)
	if diff := cmp.Diff(want, mine(t)); diff != "" {
		t.Error(diff)
	}
	apply(t, nil, nil)
	litter()
	apply(t, nil, nil)
	if diff := cmp.Diff(before, everything(t)); diff != "" {
		t.Error(diff)
	}
}

func TestVanishedDevice(t *testing.T) {
	setUp(t)
	routes, rules := both(t)
	apply(t, routes, rules)
	ip(t, "link del eth1")

	err := route.Apply(routes, rules)
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("routes over a device that is gone: %v, want ENODEV", err)
	}
	for _, want := range []string{
		"default via 100.64.0.1 dev eth2 table 7002 proto static onlink",
		"720: from all fwmark 0x2000000/0x1f000000 lookup 7002",
	} {
		if !slices.Contains(mine(t), want) {
			t.Errorf("one failed step stopped others: %q is missing", want)
		}
	}
	apply(t, nil, nil)
	if left := mine(t); len(left) != 0 {
		t.Error("left behind:", left)
	}
}

func TestNotOurs(t *testing.T) {
	setUp(t)
	before := everything(t)
	for name, c := range map[string]struct {
		routes []plan.Route
		rules  []plan.Rule
	}{
		"table below":      {routes: []plan.Route{{Table: 6999, Dest: any4, Link: 1}}},
		"table above":      {routes: []plan.Route{{Table: 7064, Dest: any4, Link: 1}}},
		"preference below": {rules: []plan.Rule{{Pref: 699, Table: 7001}}},
		"preference above": {rules: []plan.Rule{{Pref: 800, Table: 7001}}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := route.Apply(c.routes, c.rules); err == nil {
				t.Error("no error")
			}
			if diff := cmp.Diff(before, everything(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
	twice := []plan.Route{{Table: 7001, Dest: any4, Link: index(t, "eth1")}, {Table: 7001, Dest: any4, Link: index(t, "eth2")}}
	if err := route.Apply(twice, nil); err == nil {
		t.Error("no error for two routes to one destination")
	}
}

// A host without IPv6 shows no sysctls for it: a mount hides them from one
// thread, which ends with the test.
func TestWithoutIPv6(t *testing.T) {
	setUp(t)
	routes, rules := both(t)
	errC := make(chan error)
	go func() {
		runtime.LockOSThread()
		errC <- errors.Join(
			os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNS)),
			os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")),
			os.NewSyscallError("mount", unix.Mount("tmpfs", "/proc/sys/net", "tmpfs", 0, "")),
			route.Apply(routes, rules))
	}()
	if err := <-errC; err != nil {
		t.Fatal(err)
	}
	if six, err := netlink.RuleList(netlink.FAMILY_V6); err != nil || slices.ContainsFunc(six, func(r netlink.Rule) bool { return r.Priority >= 700 && r.Priority < 800 }) {
		t.Error("IPv6 rules:", six, err)
	}
	four, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 7001}, netlink.RT_FILTER_TABLE)
	if err != nil || len(four) != 1 || !four[0].Gw.Equal(net.IP(gw1.AsSlice())) {
		t.Error("IPv4 routes:", four, err)
	}
}

// Refused destinations, and tables without their default routes.
func TestNowhere(t *testing.T) {
	setUp(t)
	routes := []plan.Route{
		{Table: plan.TableNowhere, Dest: any4, Unreachable: true},
		{Table: plan.TableNowhere, Dest: any6, Unreachable: true},
		{Table: plan.TableNowhere, Dest: netip.MustParsePrefix("192.0.2.0/24"), Elsewhere: true},
		{Table: plan.TableNowhere, Dest: netip.MustParsePrefix("2001:db8:1::/64"), Elsewhere: true},
	}
	rules := []plan.Rule{
		{Pref: plan.PrefTail, Table: plan.TableMain, Specific: true, Mask: plan.MarkForeign},
		{Pref: plan.PrefTail, IPv6: true, Table: plan.TableMain, Specific: true, Mask: plan.MarkForeign},
		{Pref: plan.PrefTail, Own: true, Dest: netip.MustParsePrefix("203.0.113.53/32"), Port: 53, Mask: plan.MarkForeign, Table: plan.TableNowhere},
		{Pref: plan.PrefSource, In: "clat", Table: plan.TableMain},
		{Pref: plan.PrefTail, Table: plan.TableNowhere, Mask: 0xffffffff},
		{Pref: plan.PrefTail, IPv6: true, Table: plan.TableNowhere, Mask: 0xffffffff},
	}
	apply(t, routes, rules)
	want := []string{
		"32765: from all fwmark 0 lookup 7062",
		"32765: from all fwmark 0 lookup 7062",
		"32765: from all fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0",
		"32765: from all fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0",
		"32765: from all to 203.0.113.53 fwmark 0/0xc0ffffff iif lo dport 53 lookup 7062",
		"710: from all iif clat [detached] lookup main",
		"throw 192.0.2.0/24 table 7062 proto static",
		"throw 2001:db8:1::/64 dev lo table 7062 proto static metric 1024 pref medium",
		"unreachable default dev lo table 7062 proto static metric 1024 pref medium",
		"unreachable default table 7062 proto static",
	}
	if diff := cmp.Diff(want, mine(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	counted := changes(t, func() { apply(t, routes, rules) })
	if len(counted) != 0 {
		t.Errorf("applying the same again made %d changes", len(counted))
	}
	if out := ip(t, "route get 192.0.2.77"); !strings.Contains(out, "dev eth1") {
		t.Errorf("a connected network is reached by %s", out)
	}
	if out, err := exec.Command("ip", "route", "get", "203.0.113.1").CombinedOutput(); err == nil {
		t.Errorf("what is to be refused is reached by %s", out)
	}
	apply(t, nil, nil)
	if left := mine(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// The rules of the tail are in the order of the plan, and behind those of
// others, whoever came first; and there is no moment without them.
func TestTail(t *testing.T) {
	setUp(t)
	for _, l := range []string{"pref 32764 from 192.0.2.77 lookup 100", "pref 32765 not fwmark 51820 lookup 51820", "pref 32700 fwmark 0x100/0xff00 lookup 101"} {
		ip(t, "rule add "+l)
		t.Cleanup(func() { ip(t, "rule del "+l) })
	}
	tail := func(table int) []plan.Rule {
		return []plan.Rule{
			{Pref: plan.PrefTail, Table: plan.TableMain, Specific: true, Mask: plan.MarkForeign},
			{Pref: plan.PrefTail, Mark: 1 << 24, Mask: plan.MarkForeign | plan.MarkWAN, Table: 7001},
			{Pref: plan.PrefTail, Mask: 0xffffffff, Table: table},
		}
	}
	const ( // as ip-rule(8) shows them
		specific = "32765: from all fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0"
		marked   = "32765: from all fwmark 0x1000000/0xdfffffff lookup 7001"
		rest     = "32765: from all fwmark 0 lookup "
		wg       = "32765: not from all fwmark 0xca6c lookup 51820"
	)
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for l := range strings.Lines(ip(t, "-4 rule")) {
			if l = strings.Join(strings.Fields(l), " "); strings.HasPrefix(l, "32765:") {
				got = append(got, l)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", when, diff)
		}
	}
	apply(t, nil, tail(7001))
	check("at first", wg, specific, marked, rest+"7001")
	if n := changes(t, func() { apply(t, nil, tail(7001)) }); len(n) != 0 {
		t.Errorf("applying the same again made %d changes", len(n))
	}
	gone := false
	for _, c := range changes(t, func() { apply(t, nil, tail(7002)) }) {
		if gone = gone || c == unix.RTM_DELRULE; gone && c == unix.RTM_NEWRULE {
			t.Error("a rule went before another one came")
		}
	}
	check("another table", wg, specific, marked, rest+"7002")
	ip(t, "rule add pref 32765 from 192.0.2.78 lookup 102")
	apply(t, nil, tail(7002))
	check("somebody came later", wg, "32765: from 192.0.2.78 lookup 102", specific, marked, rest+"7002")
	ip(t, "rule del pref 32765 from 192.0.2.78")
	apply(t, nil, tail(7002)[1:])
	check("one less", wg, marked, rest+"7002")
	apply(t, nil, nil)
	check("at the end", wg)
}
