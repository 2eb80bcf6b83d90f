// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nft programs nftables by the text that `nft -f -` takes: one
// ruleset, applied as one transaction, readable by whoever runs `nft list
// ruleset`.
package nft

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"text/template"

	"braid/agent/plan"
)

//go:embed ruleset.nft.tmpl
var source string

var ruleset = template.Must(template.New("ruleset").Funcs(template.FuncMap{
	"hex":   func(v uint32) string { return fmt.Sprintf("%#08x", v) },
	"names": names,
	"vmap": func(chain string, wans []wan) string {
		return commas(wans, func(w wan) string { return fmt.Sprintf("%#08x : goto %s%d", w.Mark, chain, w.Index) })
	},
	"devices": func(chain string, wans []wan) string {
		return commas(wans, func(w wan) string { return fmt.Sprintf("%q : goto %s%d", w.Device, chain, w.Index) })
	},
	"devicesJump": func(chain string, wans []wan) string {
		return commas(wans, func(w wan) string { return fmt.Sprintf("%q : jump %s%d", w.Device, chain, w.Index) })
	},
	"addresses": addresses,
	"pins":      pins,
	"paths":     paths,
	"shares":    shares,
	"v4":        func(a any) string { return family(a, false) },
	"v6":        func(a any) string { return family(a, true) },
}).Parse(source))

// Text is the ruleset for a plan.
func Text(f plan.Firewall) string {
	var b bytes.Buffer
	err := ruleset.Execute(&b, struct {
		plan.Firewall
		WANs                                []wan
		WANDevices                          []string
		Never                               []netip.Prefix
		Intercept, LANMark, Agent, MarkBits uint32
		MarkWAN, NotWAN                     uint32
	}{
		f, wans(f), devices(f), never(f), plan.MarkIntercept, plan.MarkLAN, plan.MarkAgent, plan.MarkWAN | plan.MarkIntercept,
		plan.MarkWAN, ^uint32(plan.MarkWAN),
	})
	if err != nil {
		panic(err) // the template and its data are ours
	}
	return b.String()
}

func devices(f plan.Firewall) (names []string) {
	for _, w := range f.WANs {
		names = append(names, w.Device)
	}
	return names
}

// never lists the destinations that are not intercepted.
func never(f plan.Firewall) (nets []netip.Prefix) {
	nets = append(nets, f.LAN...)
	for _, a := range f.Converters {
		nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
	}
	return nets
}

// names quotes device names for a set.
func names(list []string) string {
	quoted := make([]string, len(list))
	for i, n := range list {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// family lists the prefixes of one family, host routes without their length.
func family(a any, v6 bool) string {
	var parts []string
	for _, p := range a.([]netip.Prefix) {
		switch {
		case p.Addr().Is6() != v6:
		case p.IsSingleIP():
			parts = append(parts, p.Addr().String())
		default:
			parts = append(parts, p.String())
		}
	}
	return strings.Join(parts, ", ")
}
