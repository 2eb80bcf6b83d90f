// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/health"
	"braid/agent/plan"
)

// Who is asked over each WAN, and how, in order of preference.
func TestProbeWays(t *testing.T) {
	const wans = `
config wan 'fibre'
	option device 'fibre'
config wan 'lte'
	option device 'lte'
`
	const converters = `
config converter 'mcp'
	list address '192.0.2.10'
	list address '2001:db8:10::10'
	option port '443'
`
	const network = `
link fibre device 198.51.100.2/24 2001:db8:f::2/64 via 198.51.100.1 via fe80::ffff
link lte wwan 100.64.0.2/30 via 100.64.0.1
host mcp.example 192.0.2.20 192.0.2.21 2001:db8:20::20
`
	tests := []struct {
		name, text string
		want       map[health.Leg]string
	}{
		{"nobody", wans, map[health.Leg]string{{WAN: "fibre", Device: "fibre"}: "", {WAN: "fibre", Device: "fibre", IPv6: true}: "", {WAN: "lte", Device: "lte"}: ""}},
		{"a converter", wans + converters, map[health.Leg]string{
			{WAN: "fibre", Device: "fibre"}:             "192.0.2.10,192.0.2.10:443",
			{WAN: "fibre", Device: "fibre", IPv6: true}: "2001:db8:10::10,[2001:db8:10::10]:443",
			{WAN: "lte", Device: "lte"}:                 "192.0.2.10,192.0.2.10:443",
		}},
		{"converters", wans + converters + "config converter 'second'\n\tlist address 'mcp.example'\n", map[health.Leg]string{
			{WAN: "fibre", Device: "fibre"}:             "192.0.2.10,192.0.2.10:443,192.0.2.20,192.0.2.20:5124", // four at most
			{WAN: "fibre", Device: "fibre", IPv6: true}: "2001:db8:10::10,[2001:db8:10::10]:443,2001:db8:20::20,[2001:db8:20::20]:5124",
			{WAN: "lte", Device: "lte"}:                 "192.0.2.10,192.0.2.10:443,192.0.2.20,192.0.2.20:5124",
		}},
		{"a list of its own", wans + "\tlist probe '192.0.2.30'\n\tlist probe '2001:db8:30::30'\n\tlist probe '192.0.2.31'\n" + converters, map[health.Leg]string{
			{WAN: "fibre", Device: "fibre"}:             "192.0.2.10,192.0.2.10:443,192.0.2.30,192.0.2.31",
			{WAN: "fibre", Device: "fibre", IPv6: true}: "2001:db8:10::10,[2001:db8:10::10]:443,2001:db8:30::30",
			{WAN: "lte", Device: "lte"}:                 "192.0.2.30,192.0.2.31,192.0.2.10,192.0.2.10:443",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := plan.Input{Config: parse(t, tt.text)}
			if err := readNetwork(&in, network); err != nil {
				t.Fatal(err)
			}
			p, _ := plan.Make(in)
			got := make(map[health.Leg]string)
			for _, target := range p.Probes {
				got[target.Leg] = target.Ways.String()
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
