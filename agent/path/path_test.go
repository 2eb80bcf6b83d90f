// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	server4 = netip.MustParseAddrPort("192.0.2.80:443")
	server6 = netip.MustParseAddrPort("[2001:db8:80::80]:443")
	mcp4    = netip.MustParseAddrPort("192.0.2.10:5124")
	mcp6    = netip.MustParseAddrPort("[2001:db8:10::10]:5124")
)

// addresses that a WAN may have.
var addressKinds = []struct {
	name string
	v4   string
	v6   bool
}{
	{"public", "198.51.100.2", false},
	{"shared", "100.64.0.2", false}, // RFC 6598, behind the carrier's NAT
	{"private", "192.168.8.2", false},
	{"dual", "198.51.100.2", true},
	{"ipv6", "", true},
	{"clat", "192.0.0.2", true}, // IPv6 with NAT64 and a translator
}

// wan are the legs of one, each WAN with addresses of its own.
func wan(name string, kind int) (legs []Leg) {
	k := addressKinds[kind]
	if k.v4 != "" {
		legs = append(legs, Leg{WAN: name, Source: netip.MustParseAddr(k.v4)})
	}
	if k.v6 {
		legs = append(legs, Leg{WAN: name, Source: netip.MustParseAddr("2001:db8:f::2")})
	}
	return legs
}

func converter(v4, v6 bool, s ConverterState) Converter {
	c := Converter{Name: "mcp", State: s}
	if v4 {
		c.Addrs = append(c.Addrs, mcp4)
	}
	if v6 {
		c.Addrs = append(c.Addrs, mcp6)
	}
	return c
}

// onPath stands on the first WAN's path.
var onPath = Converter{Name: "isp", OnPath: "fibre"}

// The whole matrix: what the second WAN has (the first has public IPv4, or
// both families), the server's family and what is known of it, the converter's
// families and state, and whether one stands on the path of the first WAN.
func TestMatrix(t *testing.T) {
	var got bytes.Buffer
	known := []struct {
		name string
		Known
	}{
		{"unknown", Known{}}, {"mute", Known{MPTCP: No}}, {"speaks", Known{MPTCP: Yes}}, {"joins", Known{MPTCP: Yes, Joins: Yes}},
		{"nojoin", Known{MPTCP: Yes, Joins: No}}, {"trial", Known{MPTCP: Yes, Joins: Yes, Trial: true}},
		{"lent", Known{MPTCP: Yes, Joins: Yes, Lends: Yes}}, {"notlent", Known{MPTCP: Yes, Joins: Yes, Lends: No}},
		{"conv", Known{MPTCP: No, OnPath: Yes}}, {"noconv", Known{MPTCP: No, OnPath: No}},
	}
	converters := []struct {
		name string
		list []Converter
	}{
		{"none", nil},
		{"v4", []Converter{converter(true, false, ConverterUp)}},
		{"v6", []Converter{converter(false, true, ConverterUp)}},
		{"dual", []Converter{converter(true, true, ConverterUp)}},
		{"down", []Converter{converter(true, true, ConverterDown)}},
		{"refused", []Converter{converter(true, true, ConverterRefused)}},
		{"onpath", []Converter{onPath}},
		{"both", []Converter{onPath, converter(true, true, ConverterUp)}},
		{"second", []Converter{converter(true, true, ConverterUp), onPath}},
	}
	fmt.Fprintln(&got, "first   second  server known   conv    decision")
	for _, first := range []int{0, 3} {
		for second := range addressKinds {
			for _, server := range []netip.AddrPort{server4, server6} {
				for _, k := range known {
					for _, c := range converters {
						n := New(append(wan("fibre", first), wan("lte", second)...), c.list, config.FallbackDirect)
						d := n.Decide(Flow{Dest: server, Path: config.PathAuto}, k.Known)
						family := "ipv4"
						if server.Addr().Is6() {
							family = "ipv6"
						}
						fmt.Fprintf(&got, "%-7s %-7s %-6s %-7s %-7s %s\n", addressKinds[first].name, addressKinds[second].name, family, k.name, c.name, show(n, &d))
					}
				}
			}
		}
	}
	const file = "testdata/matrix.txt"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); d != "" {
		t.Error(d)
	}
}

// show writes the attempts with the WANs that each would use, and the reason.
func show(n *Network, d *Decision) string {
	parts := []string{}
	for _, a := range d.Attempts() {
		var wans []string
		for _, f := range n.Expected(a) {
			if wans = append(wans, f.WAN); a.Path == config.PathDirect && !f.Remote.IsValid() {
				wans[len(wans)-1] += "?" // by an address that is lent
			}
		}
		parts = append(parts, fmt.Sprintf("%s[%s]", a.Path, strings.Join(wans, " ")))
	}
	if len(parts) == 0 {
		parts = append(parts, string(d.Path))
	}
	return strings.Join(parts, ", ") + ": " + d.Explain()
}

// The two cases of the exchange that braid comes from.
func TestCases(t *testing.T) {
	fibre := Leg{WAN: "fibre", Source: netip.MustParseAddr("198.51.100.2")}
	mcp := []Converter{converter(true, true, ConverterUp)}
	shared := New([]Leg{fibre, {WAN: "lte", Source: netip.MustParseAddr("100.64.0.2")}}, mcp, config.FallbackDirect)
	if d := shared.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{MPTCP: Yes}); d.Path != config.PathDirect {
		t.Errorf("case 1: %s: %s", d.Path, d.Explain())
	}
	only6 := New([]Leg{fibre, {WAN: "lte", Source: netip.MustParseAddr("2001:db8:c::2")}}, mcp, config.FallbackDirect)
	d := only6.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{MPTCP: Yes, Joins: Yes})
	if d.Path != config.PathConvert || d.Lost != "lte" {
		t.Errorf("case 2: %s: %s", d.Path, d.Explain())
	}
	if flows := only6.Expected(d.Attempts()[0]); len(flows) != 2 || flows[1].Remote != mcp6 {
		t.Errorf("case 2: subflows %+v", flows)
	}
}

// What a rule wants is done, whatever is known of the server, as far as it can
// be.
func TestWanted(t *testing.T) {
	up, down := []Converter{converter(true, true, ConverterUp)}, []Converter{converter(true, true, ConverterDown)}
	for _, tt := range []struct {
		path       config.Path
		rule       string
		known      Known
		converters []Converter
		want       string
	}{
		{config.PathAuto, "", Known{}, up, "convert[fibre], direct[fibre]: it is not known yet whether the server speaks MPTCP"},
		{config.PathAuto, "kid", Known{MPTCP: Yes, Joins: Yes}, up, "direct[fibre], convert[fibre]: the server speaks MPTCP, and every WAN reaches it"},
		{config.PathConvert, "kid", Known{MPTCP: Yes, Joins: Yes}, up, "convert[fibre], direct[fibre]: rule kid says so"},
		{config.PathConvert, "", Known{MPTCP: Yes, Joins: Yes}, up, "convert[fibre], direct[fibre]: a rule says so"},
		{config.PathConvert, "kid", Known{}, down, "direct[fibre]: no converter answers"},
		{config.PathDirect, "kid", Known{}, up, "direct[fibre]: rule kid says so"},
		{config.PathDirect, "kid", Known{MPTCP: No}, down, "direct[fibre]: rule kid says so"},
	} {
		n := New(wan("fibre", 0), tt.converters, config.FallbackDirect)
		d := n.Decide(Flow{Dest: server4, Path: tt.path, Rule: tt.rule}, tt.known)
		if got := show(n, &d); got != tt.want || d.Rule != tt.rule {
			t.Errorf("%s by rule %q: %s, by %q, want %s", tt.path, tt.rule, got, d.Rule, tt.want)
		}
		if tt.path == config.PathDirect && d.Attempts()[0].MPTCP {
			t.Error("a rule's direct fails with a server that does not speak MPTCP")
		}
	}
	n := New(wan("fibre", 0), down, config.FallbackReject)
	if d := n.Decide(Flow{Dest: server4, Path: config.PathConvert}, Known{}); d.Path != config.PathReject || d.Reason != ReasonFallbackReject {
		t.Errorf("%s: %s", d.Path, d.Explain())
	}
	if d := n.Decide(Flow{Dest: server6, Path: config.PathDirect}, Known{}); d.Path != config.PathReject || d.Reason != ReasonUnreachable {
		t.Errorf("%s: %s", d.Path, d.Explain())
	}
}

func TestFallback(t *testing.T) {
	second := converter(true, false, ConverterUnknown)
	second.Name = "second"
	n := New(wan("fibre", 0), []Converter{converter(true, true, ConverterDown), second}, config.FallbackReject)
	d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{})
	if a := d.Attempts(); len(a) != 1 || a[0].Converter.Name != "second" {
		t.Errorf("attempts %+v", a)
	}
	n.Converters[1].State = ConverterDown
	if d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{}); d.Path != config.PathReject || d.Reason != ReasonFallbackReject {
		t.Errorf("%s: %s", d.Path, d.Explain())
	}
	n.Fallback = config.FallbackDirect
	if d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{}); d.Path != config.PathDirect || d.Reason != ReasonConvertersDown {
		t.Errorf("%s: %s", d.Path, d.Explain())
	}
	// A server that speaks MPTCP is held to it only while there is a converter.
	if d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, Known{MPTCP: Yes}); d.Attempts()[0].MPTCP {
		t.Error("MPTCP is insisted on without an alternative")
	}
}

func BenchmarkDecide(b *testing.B) {
	n := New(slices.Concat(wan("fibre", 3), wan("lte", 1), wan("other", 4)), []Converter{converter(true, true, ConverterUp)}, config.FallbackDirect)
	var m Memory
	m.LearnMPTCP(server4, true)
	b.ReportAllocs()
	for b.Loop() {
		if d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, m.Lookup(server4)); d.n == 0 {
			b.Fatal("no attempt")
		}
	}
}
