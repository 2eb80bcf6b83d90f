// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net/netip"
	"strings"

	"braid/agent/plan"
)

// wan is a WAN with the number that its chains carry.
type wan struct {
	plan.FirewallWAN
	Index uint32
}

func index(mark uint32) uint32 { return mark / (plan.MarkWAN & -plan.MarkWAN) }

func wans(f plan.Firewall) (all []wan) {
	for _, w := range f.WANs {
		all = append(all, wan{w, index(w.Mark)})
	}
	return all
}

// device is one of a WAN's.
type device struct {
	name string
	wan  uint32 // index
}

func devices(wans []wan) (all []device) {
	for _, w := range wans {
		for _, d := range w.Devices {
			all = append(all, device{d, w.Index})
		}
	}
	return all
}

func commas[T any](all []T, text func(T) string) string {
	parts := make([]string, len(all))
	for i, v := range all {
		parts[i] = text(v)
	}
	return strings.Join(parts, ", ")
}

// wanChains give a packet or a flow its WAN.
func wanChains(all []wan) (lines []string) {
	for _, w := range all {
		lines = append(lines,
			fmt.Sprintf("\tchain wan%d {", w.Index),
			fmt.Sprintf("\t\tmeta mark set meta mark & %s | %s", hex(^uint32(plan.MarkWAN)), hex(w.Mark)),
			"\t}", "",
			fmt.Sprintf("\tchain flow%d {", w.Index),
			fmt.Sprintf("\t\tct mark set ct mark & %s | %s", hex(^uint32(plan.MarkWAN)), hex(w.Mark)),
			"\t}", "")
	}
	return lines
}

// older leads the flows that are older than we to their WANs.
func older(all []wan) []string {
	list := addresses(all)
	if list == "" {
		return nil
	}
	return []string{
		"# Flows that are older than we.",
		"ct state established,related ct reply ip daddr vmap { " + list + " }",
		"ct state established,related ct original ip daddr vmap { " + list + " }",
	}
}

// addresses leads the WANs' addresses to their chains. Of an address that two
// of them have, the first has it.
func addresses(wans []wan) string {
	var parts []string
	seen := make(map[netip.Addr]bool)
	for _, w := range wans {
		for _, a := range w.Addrs {
			if !seen[a] {
				seen[a] = true
				parts = append(parts, fmt.Sprintf("%v : goto wan%d", a, w.Index))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// The hash has two stages: over all WANs of the role, and over those that work
// for what the first stage leaves. So the flows of a WAN stay where they are
// when another one comes or goes.
const (
	seedAll    = 0x62726169
	seedUsable = 0x64736563
)

// shares are the rules that choose a WAN by the addresses of both ends.
func shares(all []plan.Share, family string) (rules []string) {
	var usable []plan.Share
	for _, s := range all {
		if s.Usable {
			usable = append(usable, s)
		}
	}
	switch {
	case len(usable) == 0:
		return nil
	case len(usable) < len(all) && len(usable) > 1:
		rules = append(rules, hash(all, family, seedAll), hash(usable, family, seedUsable))
	case len(usable) > 1:
		rules = append(rules, hash(all, family, seedAll))
	default:
		rules = append(rules, fmt.Sprintf("goto wan%d", index(usable[0].Mark)))
	}
	return rules
}

func hash(all []plan.Share, family string, seed uint32) string {
	total := 0
	var slots []string
	for _, s := range all {
		if s.Usable {
			slots = append(slots, fmt.Sprintf("%d-%d : goto wan%d", total, total+s.Weight-1, index(s.Mark)))
		}
		total += s.Weight
	}
	return fmt.Sprintf("jhash %s saddr . %s daddr mod %d seed %#x vmap { %s }", family, family, total, seed, strings.Join(slots, ", "))
}
