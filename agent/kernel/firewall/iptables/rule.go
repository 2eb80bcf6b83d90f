// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"net/netip"

	"braid/agent/config"
	"braid/agent/plan"
)

// pins are the rules of the configuration as far as they choose a WAN: the
// last that pins to one, and all before it that might match first.
func (t *text) pins(all []plan.FirewallRule) (rules []string) {
	for len(all) > 0 && all[len(all)-1].Mark == 0 {
		all = all[:len(all)-1]
	}
	for _, r := range all {
		verdict := "-g BRAID_SHARE"
		if r.Mark != 0 {
			verdict = "-g " + prefix + wanChain(r.Mark)
		}
		rules = append(rules, t.matches(r, verdict)...)
	}
	return rules
}

// paths are the rules as far as they let pass, refuse, or leave to the proxy,
// on a path of its choice or theirs.
func (t *text) paths(all []plan.FirewallRule) (rules []string) {
	for _, r := range all {
		verdict := "-g BRAID_UNRULED"
		switch r.Path {
		case config.PathPass:
			verdict = "-j RETURN"
		case config.PathReject:
			verdict = "-g BRAID_REFUSE"
		case config.PathConvert:
			verdict = "-g BRAID_CONVERT"
		case config.PathDirect:
			verdict = "-g BRAID_DIRECT"
		}
		rules = append(rules, t.matches(r, verdict)...)
	}
	return rules
}

// again are the rules for a SYN that is the proxy's in any case.
func (t *text) again(f plan.Firewall) (rules []string) {
	for _, r := range f.PathRules() {
		rules = append(rules, t.matches(r, "-g "+prefix+proxyChain(r.Path))...)
	}
	return rules
}

// matches writes a rule once for each combination of its lists' members, which
// is none if nothing of the family can match.
func (t *text) matches(r plan.FirewallRule, verdict string) (rules []string) {
	sources := t.prefixes("-s", r.Sources)
	for _, m := range r.MACs {
		sources = append(sources, "-m mac --mac-source "+m.String())
	}
	if len(r.Sources)+len(r.MACs) == 0 {
		sources = []string{""}
	}
	dests := t.prefixes("-d", r.Dests)
	if len(r.Dests) == 0 {
		dests = []string{""}
	}
	domains := ""
	if len(r.Domains) > 0 {
		domains = "-m set --match-set " + ruleSet(r.Name, t.v6) + " dst"
	}
	for _, p := range t.protocols(r) {
		for _, s := range sources {
			for _, d := range dests {
				rules = append(rules, join(s, d, p, domains, verdict))
			}
		}
	}
	return rules
}

func (t *text) prefixes(option string, all []netip.Prefix) (matches []string) {
	for _, p := range all {
		if p.Addr().Is6() == t.v6 {
			matches = append(matches, fmt.Sprintf("%s %v", option, p))
		}
	}
	return matches
}

// protocols are the ways to match a rule's protocol and ports. Rules for the
// proxy are none for anything but TCP.
func (t *text) protocols(r plan.FirewallRule) (matches []string) {
	proto := r.Proto
	if proto == config.ProtoAny && (r.Path == config.PathConvert || r.Path == config.PathDirect) {
		proto = config.ProtoTCP
	}
	names := []string{string(proto)}
	switch {
	case proto == config.ProtoICMP && t.v6:
		names = []string{"ipv6-icmp"}
	case proto == config.ProtoAny && len(r.Ports) > 0:
		names = []string{"tcp", "udp"}
	case proto == config.ProtoAny:
		return []string{""}
	}
	for _, n := range names {
		if len(r.Ports) == 0 {
			matches = append(matches, "-p "+n)
		}
		for _, p := range r.Ports {
			matches = append(matches, fmt.Sprintf("-p %s -m %s --dport %d:%d", n, n, p.First, p.Last))
		}
	}
	return matches
}
