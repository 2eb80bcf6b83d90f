// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/agent/config"
)

// The order in which legs and ways are tried, by what is known of each way.
func TestOrder(t *testing.T) {
	legs := []Leg{
		{WAN: "fibre", Source: netip.MustParseAddr("198.51.100.2")}, {WAN: "fibre", Source: netip.MustParseAddr("2001:db8:f::2")},
		{WAN: "lte", Source: netip.MustParseAddr("100.64.0.2")}, {WAN: "lte", Source: netip.MustParseAddr("2001:db8:c::2")},
	}
	up := Answer{State: ConverterUp, MPTCP: true}
	known := map[string]Answer{"up": up, "plain": {State: ConverterUp}, "down": {State: ConverterDown}, "refused": {State: ConverterRefused}, "unknown": {}}
	for _, tt := range []struct {
		name    string
		answers string // of fibre4 fibre6 lte4 lte6
		ways    string
		legs    string // a question mark at those that are mute
		v6      bool   // where first subflows start as a rule
	}{
		{"nothing is known", "unknown unknown unknown unknown", "fibre4 fibre6 lte4 lte6", "fibre4 fibre6 lte4 lte6", false},
		{"all work", "up up up up", "fibre4 fibre6 lte4 lte6", "fibre4 fibre6 lte4 lte6", false},
		{"one is unproven", "unknown up up up", "fibre6 lte4 lte6 fibre4", "fibre6 lte4 lte6 fibre4", false},
		{"a leg fails", "down up up up", "fibre6 lte4 lte6 fibre4", "fibre6 lte4 lte6 fibre4?", true},
		{"a line fails", "down down up up", "lte4 lte6 fibre4 fibre6", "lte4 lte6 fibre4? fibre6?", false},
		{"a line strips MPTCP", "plain plain up up", "lte4 lte6 fibre4 fibre6", "lte4 lte6 fibre4? fibre6?", false},
		{"all strip MPTCP", "plain plain plain plain", "fibre4 fibre6 lte4 lte6", "fibre4 fibre6 lte4 lte6", false},
		{"it refuses over a line", "refused refused up up", "lte4 lte6 fibre4 fibre6", "lte4 lte6 fibre4 fibre6", false},
		{"its IPv6 leads nowhere", "up down up down", "fibre4 lte4 fibre6 lte6", "fibre4 lte4 fibre6 lte6", false},
		{"it is away", "down down down down", "fibre4 fibre6 lte4 lte6", "fibre4 fibre6 lte4 lte6", false},
		{"it is away, or only the fibre is", "down down unknown unknown", "lte4 lte6 fibre4 fibre6", "fibre4 fibre6 lte4 lte6", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := converter(true, true, ConverterUp)
			c.Answers = make(map[Way]Answer)
			for i, state := range strings.Fields(tt.answers) {
				peer := mcp4
				if legs[i].Source.Is6() {
					peer = mcp6
				}
				c.Answers[Way{legs[i].WAN, legs[i].Source, peer}] = known[state]
			}
			n := New(legs, []Converter{c}, config.FallbackDirect)
			var ways, order []string
			for _, w := range n.Converters[0].Ways {
				ways = append(ways, fmt.Sprint(w.WAN, digit(w.Source)))
			}
			for _, l := range n.Legs {
				name := fmt.Sprint(l.WAN, digit(l.Source))
				if l.Mute {
					name += "?"
				}
				order = append(order, name)
			}
			if got := strings.Join(ways, " "); got != tt.ways {
				t.Errorf("ways %s, want %s", got, tt.ways)
			}
			if n.StartsIPv6 != tt.v6 {
				t.Errorf("starts by IPv6: %v", n.StartsIPv6)
			}
			if got := strings.Join(order, " "); got != tt.legs {
				t.Errorf("legs %s, want %s", got, tt.legs)
			}
		})
	}
}

func digit(a netip.Addr) int {
	if a.Is6() {
		return 6
	}
	return 4
}

// A leg that is mute is as if it were not there; one in doubt is tried last.
func TestMute(t *testing.T) {
	fibre, lte := Leg{WAN: "fibre", Source: netip.MustParseAddr("198.51.100.2")}, Leg{WAN: "lte", Source: netip.MustParseAddr("100.64.0.2")}
	c := converter(true, false, ConverterUp)
	up := Answer{State: ConverterUp, MPTCP: true, At: time.Unix(1, 0)}
	first, second := Way{"fibre", fibre.Source, mcp4}, Way{"lte", lte.Source, mcp4}
	c.Answers = map[Way]Answer{first: up, second: up}
	n := New([]Leg{fibre, lte}, []Converter{c}, config.FallbackDirect)
	decide := func(n *Network, k Known) string {
		d := n.Decide(Flow{Dest: server4, Path: config.PathAuto}, k)
		return strings.SplitN(show(n, &d), ":", 2)[0] + " " + d.Attempts()[0].WAN
	}
	if got, want := decide(n, Known{}), "convert[fibre lte], convert[fibre lte], direct[fibre lte] fibre"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := decide(n.Doubt("mcp", first), Known{}), "convert[lte fibre], convert[lte fibre], direct[lte fibre] lte"; got != want {
		t.Errorf("in doubt: %s, want %s", got, want)
	}
	if a := n.Converters[0].Answers[first]; a != up {
		t.Errorf("the doubt has changed the network itself: %+v", a)
	}
	c.Answers = map[Way]Answer{first: {State: ConverterDown}, second: up}
	n = New([]Leg{fibre, lte}, []Converter{c}, config.FallbackDirect)
	for k, want := range map[Known]string{
		{}:                       "convert[lte], direct[lte] lte",
		{MPTCP: Yes, Joins: Yes}: "direct[lte], convert[lte] lte",
	} {
		if got := decide(n, k); got != want {
			t.Errorf("mute: %s, want %s", got, want)
		}
	}
}
