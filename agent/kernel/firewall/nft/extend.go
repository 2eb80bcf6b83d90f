// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"braid/agent/plan"
	"braid/onpath/lend"
	"braid/onpath/nft"
)

// extension is what a ruleset has more that extends connections.
//
//go:embed extend.nft
var extension string

func extend(f plan.Firewall) []string {
	if f.Extend == nil {
		return nil
	}
	text := nft.Fill(extension, nft.Values{
		Text: map[string]string{"lan": commas(f.LANDevices, strconv.Quote)},
		Lines: map[string][]string{
			"rules":     strings.Split(strings.Trim(lend.Rules(plan.ExtendRules, plan.ExtendGroup), "\n"), "\n"),
			"never":     slices.Concat(apart(f), never(f)),
			"translate": each(f.Extend, "%[1]s daddr { %[2]s } tcp option mptcp subtype 1 dnat %[1]s to tcp dport map @"+plan.ExtendTo+"%[1]s"),
		},
	})
	lines := []string{""}
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// joins mark a subflow that a host opens to what was announced to it.
func joins(f plan.Firewall) []string {
	if f.Extend == nil {
		return nil
	}
	return each(f.Extend, "%[1]s daddr { %[2]s } tcp flags & (fin | syn | rst | ack) == syn tcp option mptcp subtype 1 meta mark set tcp dport map @"+plan.ExtendBy+"%[1]s return")
}

// pass lets hosts that speak MPTCP have their connections to themselves.
func pass(f plan.Firewall) []string {
	return slices.Concat(when(f.Extend != nil, "tcp option mptcp subtype 0 jump extendable"),
		when(f.PassMPTCP, "tcp option mptcp subtype 0 return"))
}

// each writes a rule for each family in which this host has addresses in the LAN.
func each(e *plan.Extend, format string) (rules []string) {
	for _, ip := range []string{"ip", "ip6"} {
		var addrs []netip.Addr
		for _, a := range e.Addrs {
			if a.Addr().Is6() == (ip == "ip6") {
				addrs = append(addrs, a.Addr())
			}
		}
		if len(addrs) > 0 {
			rules = append(rules, fmt.Sprintf(format, ip, commas(addrs, netip.Addr.String)))
		}
	}
	return rules
}
