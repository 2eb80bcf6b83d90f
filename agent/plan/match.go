// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
)

// Match finds the first rule that the packet filter would match a flow with; nil
// if none does. In says whether dnsmasq has put the
// destination among the addresses of a rule's domains. Of hardware addresses
// nothing is known here: they match no source.
func (f *Firewall) Match(src netip.Addr, dest netip.AddrPort, proto config.Proto, in func(rule string) (bool, error)) (*FirewallRule, error) {
	for i := range f.Rules {
		r := &f.Rules[i]
		if !r.of(proto) || len(r.Sources)+len(r.MACs) > 0 && !contain(r.Sources, src) || len(r.Dests) > 0 && !contain(r.Dests, dest.Addr()) ||
			len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p config.PortRange) bool { return p.Contains(dest.Port()) }) {
			continue
		}
		if len(r.Domains) > 0 {
			if ok, err := in(r.Name); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		return r, nil
	}
	return nil, nil
}

func contain(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// of says whether a rule is about a protocol.
func (r *FirewallRule) of(proto config.Proto) bool {
	return r.Proto == config.ProtoAny && (proto != config.ProtoICMP || len(r.Ports) == 0) || r.Proto == proto
}

// PathRules are the rules as far as they choose between the proxy's paths: the
// last that does, and all before it that might match first, as auto; for TCP
// alone.
func (f *Firewall) PathRules() (rules []FirewallRule) {
	last := 0
	for i := range f.Rules {
		if !f.Rules[i].of(config.ProtoTCP) {
			continue
		}
		rules = append(rules, f.Rules[i])
		r := &rules[len(rules)-1]
		r.Proto = config.ProtoTCP
		if r.Path == config.PathConvert || r.Path == config.PathDirect {
			last = len(rules)
		} else {
			r.Path = config.PathAuto
		}
	}
	return rules[:last]
}

// Selects says whether a selector selects a connection of the LAN. Of devices
// nothing is known here: one that is named selects none.
func (s Selector) Selects(src netip.Addr, dest netip.AddrPort, proto config.Proto) bool {
	numbers := map[config.Proto]int{config.ProtoTCP: 6, config.ProtoUDP: 17} // IANA
	switch {
	case s.In != "",
		s.Source.IsValid() && !s.Source.Contains(src),
		s.Dest.IsValid() && !s.Dest.Contains(dest.Addr()),
		s.Proto != 0 && s.Proto != numbers[proto],
		s.Port.Last != 0 && (numbers[proto] == 0 || dest.Port() < s.Port.First || dest.Port() > s.Port.Last):
		return false
	}
	return true
}
