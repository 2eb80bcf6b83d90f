// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"slices"
	"strings"

	"braid/agent/config"
	"braid/agent/plan"
)

// pins are the rules of the configuration as far as they choose a WAN: the
// last that pins to one, and all before it that might match first.
func pins(all []plan.FirewallRule, family string) (rules []string) {
	for len(all) > 0 && all[len(all)-1].Mark == 0 {
		all = all[:len(all)-1]
	}
	for _, r := range all {
		verdict := "goto share" + strings.TrimPrefix(family, "ipv")
		switch {
		case r.Mark != 0:
			verdict = fmt.Sprintf("goto wan%d", index(r.Mark))
		case tcpOnly(r):
			verdict = "meta l4proto tcp " + verdict
		}
		for _, m := range matches(r, family) {
			rules = append(rules, join(m, verdict))
		}
	}
	return rules
}

// sets are those of the addresses of rules' domains.
func sets(all []plan.FirewallRule) (lines []string) {
	for _, r := range all {
		if len(r.Domains) > 0 {
			lines = append(lines, "",
				"\t# Addresses of rule "+r.Name+"'s domains, which dnsmasq puts here.",
				"\tset "+ruleSet(r.Name, false)+" {", "\t\ttype ipv4_addr", "\t}", "",
				"\tset "+ruleSet(r.Name, true)+" {", "\t\ttype ipv6_addr", "\t}")
		}
	}
	return lines
}

// Sets names those of a rule's domains as dnsmasq's option nftset does.
func Sets(rule string) string {
	return "4#inet#braid#" + ruleSet(rule, false) + ",6#inet#braid#" + ruleSet(rule, true)
}

func ruleSet(rule string, v6 bool) string {
	if v6 {
		return "rule_" + rule + "_6"
	}
	return "rule_" + rule + "_4"
}

// paths are the rules as far as they let pass, refuse, or leave to the proxy,
// on a path of its choice or theirs.
func paths(all []plan.FirewallRule) (rules []string) {
	for _, r := range all {
		verdict := "goto unruled"
		switch {
		case r.Path == config.PathPass:
			verdict = "return"
		case r.Path == config.PathReject:
			verdict = "goto refuse"
		case tcpOnly(r):
			verdict = "meta l4proto tcp goto " + string(r.Path)
		}
		rules = append(rules, spell(r, verdict)...)
	}
	return rules
}

// again are the rules for a SYN that is the proxy's in any case.
func again(f plan.Firewall) (rules []string) {
	for _, r := range f.PathRules() {
		rules = append(rules, spell(r, "goto "+proxyChain(r.Path))...)
	}
	return rules
}

// spell writes a rule for the families that it distinguishes.
func spell(r plan.FirewallRule, verdict string) (rules []string) {
	families := []string{""}
	if len(r.Sources) > 0 || len(r.Dests) > 0 || len(r.Domains) > 0 {
		families = []string{"ipv4", "ipv6"}
	}
	for _, f := range families {
		for _, m := range matches(r, f) {
			rules = append(rules, join(m, verdict))
		}
	}
	return rules
}

// tcpOnly says that a rule is none for anything else.
func tcpOnly(r plan.FirewallRule) bool {
	return r.Path == config.PathConvert || r.Path == config.PathDirect
}

// matches are the conditions of a rule: one of them has to hold. There is none
// if nothing of the family can match.
func matches(r plan.FirewallRule, nfproto string) []string {
	ip := map[string]string{"ipv4": "ip", "ipv6": "ip6"}[nfproto]
	v6 := nfproto == "ipv6"
	var sources []string
	if s := family(r.Sources, v6); s != "" {
		sources = append(sources, fmt.Sprintf("%s saddr { %s }", ip, s))
	}
	if len(r.MACs) > 0 {
		sources = append(sources, "ether saddr { "+commas(r.MACs, config.MAC.String)+" }")
	}
	switch {
	case len(r.Sources)+len(r.MACs) == 0:
		sources = []string{""}
	case len(sources) == 0:
		return nil
	}
	var rest []string
	if nfproto != "" {
		rest = append(rest, "meta nfproto "+nfproto)
	}
	if len(r.Dests) > 0 {
		d := family(r.Dests, v6)
		if d == "" {
			return nil
		}
		rest = append(rest, fmt.Sprintf("%s daddr { %s }", ip, d))
	}
	if len(r.Domains) > 0 {
		rest = append(rest, fmt.Sprintf("%s daddr @%s", ip, ruleSet(r.Name, v6)))
	}
	switch {
	case r.Proto == config.ProtoICMP:
		rest = append(rest, "meta l4proto { icmp, ipv6-icmp }")
	case r.Proto == config.ProtoAny && len(r.Ports) > 0:
		rest = append(rest, "meta l4proto { tcp, udp }")
	case r.Proto != config.ProtoAny:
		rest = append(rest, "meta l4proto "+string(r.Proto))
	}
	if len(r.Ports) > 0 {
		rest = append(rest, "th dport { "+commas(r.Ports, config.PortRange.String)+" }")
	}
	var all []string
	for _, s := range sources {
		all = append(all, join(append(slices.Clone(rest), s)...))
	}
	return all
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}
