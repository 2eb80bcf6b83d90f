// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/health"
	"braid/agent/history"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/transport/journal"
)

func newView(t *testing.T) *View {
	t.Helper()
	log := journal.New(io.Discard)
	p := &proxy.Proxy{Log: log, Memory: new(path.Memory)}
	return New("test", p, health.NewMonitor(log), converter.NewMonitor(log, p.Dialer(), nil), new(load.Meter), modem.NewWatcher(log), new(history.Events))
}

func fibre(verdict6 health.Verdict, reason string) plan.WAN {
	return plan.WAN{Name: "fibre", Index: 1, Device: "eth1", Kind: config.KindFixed, Role: config.RolePrimary, Usable: true, Legs: []plan.Leg{
		{Device: "pppoe-wan", Origin: plan.OriginSession, Source: netip.MustParseAddr("198.51.100.2"), Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, Subflows: true},
		{IPv6: true, Device: "eth1", Origin: plan.OriginNative, Source: netip.MustParseAddr("2001:db8:f::2"), Gateway: netip.MustParseAddr("fe80::1"),
			Addrs: []netip.Addr{netip.MustParseAddr("2001:db8:f::2")}, Subflows: true, Verdict: verdict6, Reason: reason},
	}}
}

// A WAN is degraded as long as one of its legs is not well, and told of once.
func TestShow(t *testing.T) {
	v := newView(t)
	c := config.Config{Globals: config.Globals{Enabled: true}, WANs: []config.WAN{{Name: "fibre"}}}
	show := func(w plan.WAN) []report.Told { return v.Show(c, plan.Plan{WANs: []plan.WAN{w}}, nil) }
	well, ill := fibre(health.Up, ""), fibre(health.Down, "6 probes without an answer")
	for _, step := range []struct {
		wan  plan.WAN
		want []report.Told
	}{
		{well, []report.Told{report.WANEvent{WAN: "fibre", From: "down", To: "up"}}},
		{well, nil},
		{ill, []report.Told{report.WANEvent{WAN: "fibre", From: "up", To: "degraded", Reason: "ipv6: 6 probes without an answer"}}},
		{ill, nil},
	} {
		if diff := cmp.Diff(step.want, show(step.wan)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	}
	if s := v.Status(); s.State != report.StateDegraded {
		t.Errorf("state %s", s.State)
	}
	got := v.WANs().WANs[0]
	want := []report.Leg{
		{Family: "ipv4", Device: "pppoe-wan", Source: "198.51.100.2", Origin: "pppoe", State: "up"},
		{Family: "ipv6", Device: "eth1", Source: "2001:db8:f::2", Gateway: "fe80::1", Origin: "native", State: "down", Reason: "6 probes without an answer"},
	}
	for i := range got.Legs {
		got.Legs[i].Converters = nil
	}
	if diff := cmp.Diff(want, got.Legs); diff != "" {
		t.Errorf("legs (-want +got):\n%s", diff)
	}
	if got.IPv4 != "public" || !got.IPv6 || len(got.Addresses) != 2 {
		t.Errorf("%+v", got)
	}
}

// What others have decided about is explained as theirs, before anything else.
func TestPasses(t *testing.T) {
	src, dest := netip.MustParseAddr("192.168.1.20"), netip.MustParseAddrPort("203.0.113.7:443")
	taken := plan.Firewall{IPv4: plan.FirewallFamily{Take: true}}
	with := func(change func(*plan.Firewall)) plan.Plan {
		f := taken
		change(&f)
		return plan.Plan{Firewall: &f}
	}
	var reasons []string
	for _, p := range []plan.Plan{
		{},
		with(func(f *plan.Firewall) { f.IPv4.Left = true }),
		with(func(f *plan.Firewall) { f.IPv4.Guests = []plan.Selector{{Source: netip.PrefixFrom(src, 32)}} }),
		with(func(f *plan.Firewall) { f.IPv4.Take = false }),
		with(func(f *plan.Firewall) { f.LAN = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} }),
	} {
		reason := passes(p, src, dest, config.ProtoTCP)
		if reason == "" || slices.Contains(reasons, reason) {
			t.Errorf("%+v passes because %q", p.Firewall, reason)
		}
		reasons = append(reasons, reason)
	}
	if reason := passes(with(func(*plan.Firewall) {}), src, dest, config.ProtoTCP); reason != "" {
		t.Errorf("what is taken passes because %s", reason)
	}
}
