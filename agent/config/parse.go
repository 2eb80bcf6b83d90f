// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"sort"

	"braid/agent/uci"
)

const (
	// MaxWANs is how many WANs a configuration may have. The firewall mark
	// has five bits for them, of which 0 is no WAN and 31 is kept back.
	MaxWANs = 30

	maxName = 32        // bytes of a WAN's name
	maxRate = 100000000 // kbit/s
	maxGB   = 1000000
)

// parser collects sections, and what is wrong with them.
type parser struct {
	globals    Globals
	wans       []parsed[WAN]
	converters []parsed[Converter]
	rules      []parsed[Rule]
	problems   Problems
}

// parsed is a value with the section it comes from.
type parsed[T any] struct {
	*section
	value T
	off   bool // checked, but no part of the configuration
}

// Parse returns the configuration that p holds, and everything wrong with it.
// If any problem is more than a warning, the Config is the zero value.
func Parse(p uci.Package) (Config, Problems) {
	ps := parser{globals: Globals{
		// A file in which nobody has written anything asks for nothing.
		Enabled:  len(p.Sections) > 0,
		Firewall: FirewallAuto,
		LAN:      []string{"lan"},
		LANMPTCP: LANMPTCPPass,
		Fallback: FallbackDirect,
		Steer:    true,
		Accept:   AcceptEarly,
		IPv6:     IPv6Masquerade,
	}}
	if p.CRLF > 0 {
		ps.problems = append(ps.problems, Problem{Path: p.Path, Warning: true,
			Message: fmt.Sprintf("line %d, and perhaps others, ends in CR LF: it is read, but values over several lines would keep the CR", p.CRLF)})
	}
	globals := 0
	for _, us := range p.Sections {
		s := &section{Section: us, path: p.Path, problems: &ps.problems}
		if s.Again > 0 {
			s.errorf("", "the section begins a second time on line %d", s.Again)
		}
		switch s.Type {
		case "globals":
			if globals++; globals > 1 {
				s.errorf("", "there is a section of type globals already")
			}
			ps.parseGlobals(s)
		case "wan":
			ps.wans = append(ps.wans, parseWAN(s))
		case "converter":
			ps.converters = append(ps.converters, parseConverter(s))
		case "rule":
			ps.rules = append(ps.rules, parseRule(s))
		default:
			s.warnf("", "unknown section type %s%s", s.Type,
				suggest(s.Type, []string{"globals", "wan", "converter", "rule"}))
			continue
		}
		s.rest()
	}
	ps.checkWANs()
	ps.checkConverters()
	ps.checkRules()
	if ps.problems.Err() != nil {
		return Config{}, ps.problems
	}

	c := Config{
		Globals:    ps.globals,
		WANs:       values(ps.wans),
		Converters: values(ps.converters),
		Rules:      values(ps.rules),
	}
	sort.SliceStable(c.Converters, func(i, j int) bool { return c.Converters[i].Priority < c.Converters[j].Priority })
	return c, ps.problems
}

func values[T any](all []parsed[T]) []T {
	var vs []T
	for _, p := range all {
		if !p.off {
			vs = append(vs, p.value)
		}
	}
	return vs
}

func (ps *parser) parseGlobals(s *section) {
	g := &ps.globals
	one(s, "enabled", &g.Enabled, boolean)
	one(s, "log_level", &g.LogLevel, logLevel)
	one(s, "firewall", &g.Firewall, enum(FirewallAuto, FirewallNFTables, FirewallIPTables))
	many(s, "lan", &g.LAN, link)
	one(s, "lan_mptcp", &g.LANMPTCP, enum(LANMPTCPPass, LANMPTCPConvert, LANMPTCPExtend))
	one(s, "fallback", &g.Fallback, enum(FallbackDirect, FallbackReject))
	one(s, "steer", &g.Steer, boolean)
	one(s, "block_quic", &g.BlockQUIC, boolean)
	one(s, "accept", &g.Accept, enum(AcceptEarly, AcceptLate))
	one(s, "ipv6", &g.IPv6, enum(IPv6Masquerade, IPv6NPT))
}

func parseWAN(s *section) parsed[WAN] {
	w := WAN{Name: s.Name, Weight: 100, QuotaDay: 1, QuotaPeriod: QuotaMonth, QuotaAction: QuotaBackup}
	if w.Name == "" {
		s.errorf("", "a WAN needs a name: config wan 'NAME'")
	}
	if len(w.Name) > maxName {
		s.errorf("", "the name has more than %d characters", maxName)
	}
	many(s, "interface", &w.Interfaces, link)
	one(s, "device", &w.Device, device)
	many(s, "gateway", &w.Gateways, remote)
	one(s, "kind", &w.Kind, enum(KindFixed, KindCellular))
	one(s, "role", &w.Role, enum(RolePrimary, RoleBond, RoleOverflow, RoleBackup, RoleOff))
	one(s, "weight", &w.Weight, integer(1, 1000))
	one(s, "rate_down", &w.RateDown, integer(1, maxRate))
	one(s, "rate_up", &w.RateUp, integer(1, maxRate))
	many(s, "probe", &w.Probes, remote)
	one(s, "quota", &w.Quota, integer(0, maxGB))
	one(s, "quota_day", &w.QuotaDay, integer(1, 28))
	one(s, "quota_period", &w.QuotaPeriod, enum(QuotaMonth, QuotaOnce))
	one(s, "quota_action", &w.QuotaAction, enum(QuotaBackup, QuotaOff))
	one(s, "modem", &w.Modem, modem)
	one(s, "roaming", &w.Roaming, boolean)

	switch {
	case s.has("interface") && s.has("device"):
		s.errorf("device", "interface is set as well; only one of them can say where this WAN is")
	case !s.has("interface") && !s.has("device"):
		s.errorf("", "neither interface nor device is set")
	}
	var families [2]bool
	for _, g := range w.Gateways {
		v6 := 0
		if g.Is6() {
			v6 = 1
		}
		if families[v6] {
			s.errorf("gateway", "%q is a second gateway of its address family", g)
		}
		families[v6] = true
	}
	if w.Kind == KindFixed && s.has("modem") {
		s.errorf("modem", "only for a WAN of kind cellular")
	}
	if w.Kind == KindFixed && w.Roaming {
		s.errorf("roaming", "only for a WAN of kind cellular")
	}
	if w.Kind == "" && w.Modem != "" {
		w.Kind = KindCellular
	}
	return parsed[WAN]{section: s, value: w}
}

func parseConverter(s *section) parsed[Converter] {
	c := Converter{Name: s.String(), Port: 5124, Priority: 10}
	many(s, "address", &c.Addresses, host)
	one(s, "port", &c.Port, port)
	one(s, "srv", &c.SRV, domain)
	one(s, "key", &c.Key, secret)
	one(s, "cookie", &c.Cookie, secret)
	mode := ModeExplicit
	one(s, "mode", &mode, enum(ModeExplicit, ModeOnPath))
	one(s, "wan", &c.OnPath, name)
	one(s, "priority", &c.Priority, integer(0, 65535))
	switch {
	case mode == ModeOnPath && c.OnPath == "":
		s.errorf("wan", "mode onpath needs the WAN on whose path it stands")
		return parsed[Converter]{section: s, value: c}
	case mode == ModeOnPath:
		for _, o := range []string{"address", "port", "srv", "key", "cookie"} {
			if s.has(o) {
				s.warnf(o, "is not used: with mode onpath the converter is addressed by nobody")
			}
		}
		return parsed[Converter]{section: s, value: Converter{Name: c.Name, OnPath: c.OnPath, Priority: c.Priority}}
	case c.OnPath != "":
		s.errorf("wan", "only with mode onpath")
		c.OnPath = ""
	}
	switch {
	case c.SRV != "" && (s.has("address") || s.has("port")):
		s.errorf("srv", "address or port is set as well; they come from the DNS then")
	case !s.has("srv") && !s.has("address"):
		s.errorf("", "no address is set")
	}
	if s.has("key") && s.has("cookie") {
		s.errorf("cookie", "key is set as well, which is shown instead; a cookie is sent in clear")
	}
	return parsed[Converter]{section: s, value: c}
}

func parseRule(s *section) parsed[Rule] {
	r := Rule{Name: s.String(), Proto: ProtoAny, Path: PathAuto}
	enabled := true
	var sources []source
	one(s, "enabled", &enabled, boolean)
	many(s, "src", &sources, parseSource)
	many(s, "dest", &r.Dests, prefix)
	many(s, "domain", &r.Domains, domain)
	one(s, "proto", &r.Proto, enum(ProtoTCP, ProtoUDP, ProtoICMP, ProtoAny))
	many(s, "dest_port", &r.DestPorts, ports)
	one(s, "path", &r.Path, enum(PathAuto, PathConvert, PathDirect, PathPass, PathReject))
	one(s, "wan", &r.WAN, name)

	for _, src := range sources {
		if src.prefix.IsValid() {
			r.Sources = append(r.Sources, src.prefix)
		} else {
			r.MACs = append(r.MACs, src.mac)
		}
	}
	if r.Proto == ProtoICMP && s.has("dest_port") {
		s.errorf("dest_port", "ICMP has no ports")
	}
	if (r.Path == PathConvert || r.Path == PathDirect) && (r.Proto == ProtoUDP || r.Proto == ProtoICMP) {
		s.errorf("path", "%s is for TCP, and proto is %s", r.Path, r.Proto)
	}
	return parsed[Rule]{section: s, value: r, off: !enabled}
}

// checkWANs compares the WANs with each other and with the LAN.
func (ps *parser) checkWANs() {
	primary := ""
	owner := make(map[string]string) // of an interface or a device
	for i, w := range ps.wans {
		if i == MaxWANs {
			w.errorf("", "there can be %d WANs at most", MaxWANs)
		}
		if w.value.Role == RolePrimary {
			if primary != "" {
				w.errorf("role", "%s is primary already", primary)
			}
			primary = w.String()
		}
		option, links := "interface", w.value.Interfaces
		if w.value.Device != "" {
			option, links = "device", []string{w.value.Device}
		}
		for _, l := range links {
			if slices.Contains(ps.globals.LAN, l) {
				w.errorf(option, "%q is a LAN of globals.lan", l)
			}
			if o, taken := owner[l]; taken {
				w.errorf(option, "%q is in use by %s", l, o)
			}
			owner[l] = w.String()
		}
	}
}

// checkConverters looks for addresses that lead to two converters, and for WANs
// on whose path none can stand.
func (ps *parser) checkConverters() {
	type endpoint struct {
		Host
		port uint16
	}
	owner := make(map[endpoint]string)
	for _, c := range ps.converters {
		c.checkWAN(c.value.OnPath, ps.names())
		for _, h := range c.value.Addresses {
			e := endpoint{h, c.value.Port}
			if o, taken := owner[e]; taken {
				c.errorf("address", "%q with port %d is an address of %s already", h, e.port, o)
			}
			owner[e] = c.String()
		}
	}
}

// checkRules looks for WANs that rules cannot pin to.
func (ps *parser) checkRules() {
	for _, r := range ps.rules {
		if r.checkWAN(r.value.WAN, ps.names()); r.value.WAN != "" && r.value.Path != PathPass {
			r.errorf("wan", "only with path pass, and path is %s", r.value.Path)
		}
	}
}

// names are those of the WANs.
func (ps *parser) names() (names []string) {
	for _, w := range ps.wans {
		names = append(names, w.value.Name)
	}
	return names
}

// checkWAN looks whether there is the WAN that a section names, if it does.
func (s *section) checkWAN(wan string, names []string) {
	if wan != "" && !slices.Contains(names, wan) {
		s.errorf("wan", "there is no WAN %q%s", wan, suggest(wan, names))
	}
}
