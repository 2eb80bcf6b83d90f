// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"net/netip"
	"testing"

	"braid/agent/config"
)

// The second connection to a server leaves as the first does: FTP's data, whose
// port nobody knows, beside its control connection.
func TestFollow(t *testing.T) {
	dest := netip.MustParseAddrPort("192.0.2.80:50001")
	fibre, lte := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("100.64.0.2")
	n := New([]Leg{{WAN: "fibre", Source: fibre}, {WAN: "lte", Source: lte}}, []Converter{
		{Name: "one", State: ConverterUp, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:5124")}},
		{Name: "two", State: ConverterUp, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.11:5124")}},
	}, config.FallbackDirect)
	auto := Flow{Dest: dest, Path: config.PathAuto}
	straight := func(wan string, source netip.Addr) Attempt {
		return Attempt{Path: config.PathDirect, Way: Way{WAN: wan, Source: source}, MPTCP: true}
	}
	for _, tt := range []struct {
		name  string
		flow  Flow
		known Known
		open  Attempt
		want  string // path and converter or WAN of the first attempt
	}{
		{"converted", auto, Known{}, Attempt{Path: config.PathConvert, Converter: &n.Converters[0]}, "convert one"},
		{"by the second converter", auto, Known{}, Attempt{Path: config.PathConvert, Converter: &n.Converters[1]}, "convert two"},
		{"converted, and since known to speak MPTCP", auto, Known{MPTCP: Yes, Joins: Yes}, Attempt{Path: config.PathConvert, Converter: &n.Converters[0]}, "convert one"},
		{"straight", auto, Known{}, straight("fibre", fibre), "direct fibre"},
		{"straight over the other line", auto, Known{}, straight("lte", lte), "direct lte"},
		{"straight over a line that has gone", auto, Known{}, straight("dsl", netip.MustParseAddr("203.0.113.2")), "convert one"},
		{"straight from an address that has gone", auto, Known{}, straight("lte", netip.MustParseAddr("100.64.0.3")), "convert one"},
		{"a rule", Flow{Dest: dest, Path: config.PathConvert}, Known{}, straight("fibre", fibre), "convert one"},
		{"another rule", Flow{Dest: dest, Path: config.PathDirect}, Known{}, Attempt{Path: config.PathConvert, Converter: &n.Converters[0]}, "direct fibre"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := n.Decide(tt.flow, tt.known)
			before := len(d.Attempts())
			n.Follow(&d, tt.flow, tt.open)
			first := d.Attempts()[0]
			got := string(first.Path) + " " + first.WAN
			if first.Converter != nil {
				got = string(first.Path) + " " + first.Converter.Name
			}
			if got != tt.want || d.Path != first.Path {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if len(d.Attempts()) < before {
				t.Errorf("%d attempts, %d before", len(d.Attempts()), before)
			}
			if first.Path == config.PathDirect && (first.Peer != dest || first.MPTCP && tt.flow.Path == config.PathAuto) {
				t.Errorf("first attempt %+v", first)
			}
		})
	}
}
