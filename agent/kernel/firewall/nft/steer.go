// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net/netip"
	"slices"
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

// names are those of all devices, each once.
func names(wans []wan) (all []string) {
	for _, w := range wans {
		for _, d := range w.Devices {
			if !slices.Contains(all, d) {
				all = append(all, d)
			}
		}
	}
	return all
}

func isShared(wans []wan, name string) bool {
	n := 0
	for _, w := range wans {
		if slices.Contains(w.Devices, name) {
			n++
		}
	}
	return n > 1
}

// alone are the devices that one WAN has for itself: they tell of a packet
// which WAN's it is.
func alone(wans []wan) (all []device) {
	for _, w := range wans {
		for _, d := range w.Devices {
			if !isShared(wans, d) {
				all = append(all, device{d, w.Index})
			}
		}
	}
	return all
}

// inShared tells by the address by which of a device's WANs a flow has come in.
func inShared(wans []wan) (rules []string) {
	for _, w := range wans {
		for _, d := range w.Devices {
			if isShared(wans, d) && len(w.Addrs) > 0 {
				rules = append(rules, fmt.Sprintf("ct mark & %s == 0 iifname %q ip daddr { %s } goto flow%d",
					hex(plan.MarkWAN), d, commas(w.Addrs, netip.Addr.String), w.Index))
			}
		}
	}
	return rules
}

// outShared tells by the mark by which of a device's WANs a flow leaves.
func outShared(wans []wan) (rules []string) {
	for _, name := range names(wans) {
		if !isShared(wans, name) {
			continue
		}
		var marks []string
		for _, w := range wans {
			if slices.Contains(w.Devices, name) {
				marks = append(marks, fmt.Sprintf("%s : jump flow%d", hex(w.Mark), w.Index))
			}
		}
		rules = append(rules, fmt.Sprintf("ct mark & %s == 0 oifname %q meta mark & %s vmap { %s }",
			hex(plan.MarkWAN), name, hex(plan.MarkWAN), strings.Join(marks, ", ")))
	}
	return rules
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
func shares(f plan.FirewallFamily, family string) (rules []string) {
	all := f.Shares
	var usable []plan.Share
	for _, s := range all {
		if s.Usable {
			usable = append(usable, s)
		}
	}
	if family == "ip6" && len(usable) > 0 { // who signs addresses takes the best line, which is the one to keep them
		rules = signed()
	}
	rules = append(rules, flows("meta l4proto tcp "+family+" saddr . "+family+" daddr vmap { %s }", commas(f.Kept, func(k plan.Kept) string {
		return fmt.Sprintf("%v . %v : goto wan%d", k.Host, k.Server, index(k.Mark))
	}))...)
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

// public keeps flows from a LAN's public addresses where they would be without us.
func public(nets []netip.Prefix) []string {
	return when(len(nets) > 0, "ip saddr { "+commas(nets, netip.Prefix.String)+" } return")
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
