// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nft programs nftables by the text that `nft -f -` takes: one
// ruleset, applied as one transaction, readable by whoever runs `nft list
// ruleset`.
package nft

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"braid/agent/config"
	"braid/agent/plan"
	"braid/onpath/nft"
)

// source is the ruleset with ${names} for what Text knows.
//
//go:embed ruleset.nft
var source string

// Text is the ruleset for a plan.
func Text(f plan.Firewall) string {
	all := wans(f)
	others := slices.Concat(theirs(f.IPv4, "ipv4"), theirs(f.IPv6, "ipv6"))
	jump := func(verdict, chain string) string {
		return commas(alone(all), func(d device) string { return fmt.Sprintf("%q : %s %s%d", d.name, verdict, chain, d.wan) })
	}
	return nft.Fill(source, nft.Values{
		Text: map[string]string{
			"bits":        hex(plan.MarkWAN | plan.MarkIntercept),
			"wanbits":     hex(plan.MarkWAN),
			"foreign":     hex(plan.MarkForeign),
			"taken":       hex(plan.MarkIntercept),
			"agent":       hex(plan.MarkAgent),
			"lanmark":     hex(plan.MarkLAN),
			"convert":     hex(plan.MarkConvert),
			"direct":      hex(plan.MarkDirect),
			"autoport":    strconv.Itoa(int(f.Ports[0])),
			"convertport": strconv.Itoa(int(f.Ports[1])),
			"directport":  strconv.Itoa(int(f.Ports[2])),
			"lan":         commas(f.LANDevices, strconv.Quote),
			"wan":         commas(names(all), strconv.Quote),
			"towan":       commas(all, func(w wan) string { return fmt.Sprintf("%s : goto wan%d", hex(w.Mark), w.Index) }),
		},
		Lines: map[string][]string{
			"sets":      sets(f.Rules),
			"extend":    extend(f),
			"joins":     joins(f),
			"again":     again(f),
			"wans":      wanChains(all),
			"older":     older(all),
			"toflow":    append(flows("ct mark & "+hex(plan.MarkWAN)+" == 0 iifname vmap { %s }", jump("goto", "flow")), inShared(all)...),
			"viaflow":   append(flows("ct mark & "+hex(plan.MarkWAN)+" == 0 oifname vmap { %s }", jump("jump", "flow")), outShared(all)...),
			"dead":      dead(f.Dead),
			"pins4":     pins(f.Rules, "ipv4"),
			"pins6":     pins(f.Rules, "ipv6"),
			"shares4":   append(public(f.Public), shares(f.IPv4, "ip")...),
			"shares6":   shares(f.IPv6, "ip6"),
			"clats":     clats(f.CLATs),
			"paths":     paths(f.Rules),
			"ipsec":     when(f.IPsec, "rt ipsec exists accept"),
			"spared":    slices.Concat(spared(f.IPv4, "ipv4"), spared(f.IPv6, "ipv6")),
			"quic":      when(f.BlockQUIC, "udp dport 443 goto refuse"),
			"pass":      pass(f),
			"apart":     apart(f),
			"never":     never(f),
			"take":      take(f),
			"theirs":    others,
			"guests":    when(len(others) > 0, "jump theirs"),
			"intercept": intercept(f.Late),
			"translate": translate(f.WANs),
		},
	})
}

func hex(v uint32) string { return fmt.Sprintf("%#08x", v) }

func when(on bool, line string) []string {
	if !on {
		return nil
	}
	return []string{line}
}

// apart leads the connections back that have to be forwarded, whatever they
// lead to.
func apart(f plan.Firewall) (rules []string) {
	rules = append(signed(), fmt.Sprintf("tcp sport < %d return", plan.Privileged))
	rules = append(rules, fmt.Sprintf("ip ttl < %d return", plan.LeastHops), fmt.Sprintf("ip6 hoplimit < %d return", plan.LeastHops))
	for _, p := range f.Helped { // which may overlap
		rules = append(rules, fmt.Sprintf("tcp dport %v return", p))
	}
	for _, v6 := range []bool{false, true} {
		rules = append(rules, fmt.Sprintf("%s daddr . tcp dport @%s return", map[bool]string{false: "ip", true: "ip6"}[v6], unreachedSet(v6)))
	}
	return rules
}

// signed leads connections back whose ends sign their addresses.
func signed() (rules []string) {
	for _, kind := range plan.Signed {
		rules = append(rules, fmt.Sprintf("tcp option %d exists return", kind))
	}
	return rules
}

// never leads the destinations and sources back that are not intercepted.
func never(f plan.Firewall) (rules []string) {
	nets := append(append([]netip.Prefix(nil), f.LAN...), f.Access...)
	for _, a := range f.Converters {
		nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
	}
	var hosts []netip.Prefix
	for _, a := range f.Crowd {
		hosts = append(hosts, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, ip := range []string{"ip", "ip6"} {
		if list := family(nets, ip == "ip6"); list != "" {
			rules = append(rules, fmt.Sprintf("%s daddr { %s } return", ip, list))
		}
		if list := family(hosts, ip == "ip6"); list != "" {
			rules = append(rules, fmt.Sprintf("%s saddr { %s } return", ip, list))
		}
	}
	return rules
}

// dead ends the host's own TCP over dead legs, but for what others have marked
// and what others have opened.
func dead(legs []plan.DeadLeg) (rules []string) {
	for _, l := range legs {
		nfproto, ip, from := "ipv4", "ip", ""
		if l.IPv6 {
			nfproto, ip = "ipv6", "ip6"
		}
		if len(l.Addrs) > 0 {
			from = fmt.Sprintf("%s saddr { %s }", ip, commas(l.Addrs, netip.Addr.String))
		}
		rules = append(rules, join(fmt.Sprintf("oifname %q meta nfproto %s", l.Device, nfproto), from,
			"tcp flags & (syn | rst) == 0 ct direction original meta mark & "+hex(plan.MarkForeign)+" == 0 tcp option mptcp missing reject with tcp reset"))
	}
	return rules
}

func intercept(late bool) []string {
	const returned = `iifname "lo" meta l4proto tcp meta mark & `
	accepted := uint32(0)
	if late {
		accepted = plan.MarkAccepted
	}
	var proxies []string
	for _, v := range plan.Verdicts {
		proxies = append(proxies, hex(v.Mark|accepted)+" : goto "+proxyChain(v.Path))
	}
	rules := []string{returned + hex(plan.MarkWAN|plan.MarkIntercept) + " vmap { " + strings.Join(proxies, ", ") + " }"}
	if late {
		rules = []string{
			"# The agent has seen it, and sends it again once the far side has answered.",
			rules[0],
			returned + hex(plan.MarkIntercept) + " == " + hex(plan.MarkIntercept) + " drop",
		}
	}
	return rules
}

func proxyChain(p config.Path) string { return "proxy_" + string(p) }

// clats keep strangers from a translator, which takes answers alone.
func clats(all []plan.CLAT) (rules []string) {
	for _, c := range all {
		rules = append(rules, fmt.Sprintf("ip6 daddr %v ct state new drop # its translator takes answers alone", c.Inner))
	}
	return rules
}

// flows is a rule over a map, none over an empty one.
func flows(format, elements string) []string {
	return when(elements != "", fmt.Sprintf(format, elements))
}

// take is the rule that takes a SYN, of the families that can be carried.
func take(f plan.Firewall) []string {
	only := ""
	switch {
	case f.Drain, !f.IPv4.Take && !f.IPv6.Take:
		return nil
	case !f.IPv6.Take:
		only = "meta nfproto ipv4 "
	case !f.IPv4.Take:
		only = "meta nfproto ipv6 "
	}
	return []string{only + "meta nfproto @alive meta mark set meta mark & " + hex(^uint32(plan.MarkWAN)) + " | " + hex(plan.MarkIntercept)}
}

// spared refuses what a family would pull onto a WAN of a lower role.
func spared(f plan.FirewallFamily, nfproto string) []string {
	if len(f.Spared) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("meta nfproto %s oifname { %s } goto refuse", nfproto, commas(f.Spared, strconv.Quote))}
}

// theirs are the packets of a family that somebody else has decided about.
func theirs(f plan.FirewallFamily, nfproto string) (rules []string) {
	if f.Left {
		return []string{"meta nfproto " + nfproto + " accept"}
	}
	ip := map[string]string{"ipv4": "ip", "ipv6": "ip6"}[nfproto]
	for _, g := range f.Guests {
		var in, src, dst, port string
		if g.In != "" {
			in = fmt.Sprintf("meta nfproto %s iifname %q", nfproto, g.In)
		}
		if g.Source.IsValid() {
			src = fmt.Sprintf("%s saddr %v", ip, g.Source)
		}
		if g.Dest.IsValid() {
			dst = fmt.Sprintf("%s daddr %v", ip, g.Dest)
		}
		if g.Proto != 0 {
			port = fmt.Sprintf("meta nfproto %s meta l4proto %d", nfproto, g.Proto)
		} else if g.Port.Last != 0 {
			port = fmt.Sprintf("meta nfproto %s meta l4proto { tcp, udp }", nfproto)
		}
		if g.Port.Last != 0 {
			port += fmt.Sprintf(" th dport %d-%d", g.Port.First, g.Port.Last)
		}
		rules = append(rules, join(in, src, dst, port, "accept"))
	}
	return rules
}

func translate(wans []plan.FirewallWAN) (rules []string) {
	for _, w := range wans {
		for _, t := range w.Translate {
			to := "masquerade"
			if t.To.IsValid() {
				to = fmt.Sprintf("snat ip6 prefix to ip6 saddr map { %v : %v }", t.From, t.To)
			}
			rules = append(rules, fmt.Sprintf("oifname %q ip6 saddr %v %s", t.Device, t.From, to))
		}
	}
	return rules
}

// family lists the prefixes of one family, host routes without their length.
func family(ps []netip.Prefix, v6 bool) string {
	var parts []string
	for _, p := range ps {
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
