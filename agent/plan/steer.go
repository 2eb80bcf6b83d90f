// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"braid/agent/config"
	"braid/agent/netstate"
)

// Share is a WAN's part of the flows that are steered.
type Share struct {
	Mark   uint32
	Weight int
	Usable bool // if not, its flows are divided among the others
}

// FirewallRule is a rule of the configuration as the packet filter applies it.
type FirewallRule struct {
	Section string // of the configuration
	Name    string // for sets: letters, digits and _
	Sources []netip.Prefix
	MACs    []config.MAC
	Dests   []netip.Prefix
	Domains []string // the destination is in the rule's sets, which dnsmasq fills for them
	Proto   config.Proto
	Ports   []config.PortRange
	Path    config.Path
	Mark    uint32 // of the WAN to which it pins; 0: none, or one that does not work
}

// Translation gives steered IPv6 a source that its WAN takes.
type Translation struct {
	From netip.Prefix
	To   netip.Prefix // invalid: the WAN's address
}

// FlowWAN says which connection tracking entries of a WAN are still good.
type FlowWAN struct {
	Mark         uint32
	IPv4, IPv6   bool // the WAN works in this family
	Addrs        []netip.Addr
	Main4, Main6 bool // without braid, flows go there
}

// steer plans where everything goes that is not intercepted: flows that carry
// a WAN's mark over that WAN, all else, this host's own traffic among it, over
// the best one. Whatever the main table has a route for that is no default
// goes as it says.
func (m *maker) steer() {
	p := &m.plan
	for _, v6 := range []bool{false, true} {
		p.Rules = append(p.Rules, Rule{Pref: PrefMain, IPv6: v6, Table: TableMain, Specific: true})
		for _, t := range m.Net.Tables {
			if t.IPv6 == v6 {
				p.Rules = append(p.Rules, Rule{Pref: PrefMain, IPv6: v6, Table: t.Table, Specific: true})
			}
		}
		for _, w := range p.WANs {
			if w.steered(v6).Source.IsValid() {
				p.Rules = append(p.Rules, Rule{Pref: PrefMark, IPv6: v6, Mark: w.Mark(), Mask: MarkWAN, Table: w.Table()})
			}
		}
		if best, ok := p.best(v6); ok && m.Config.Globals.Steer {
			p.Rules = append(p.Rules, Rule{Pref: PrefDefault, IPv6: v6, Table: best.Table()})
		}
	}
	if m.Config.Globals.Steer {
		m.resolvers()
	}
	m.flows()
}

// best is the WAN on which a family's connections start.
func (p Plan) best(v6 bool) (WAN, bool) {
	for _, role := range []config.Role{config.RolePrimary, config.RoleBond, config.RoleOverflow, config.RoleBackup} {
		for _, w := range p.WANs {
			if w.Usable && w.Role == role && w.steered(v6).Usable {
				return w, true
			}
		}
	}
	return WAN{}, false
}

func (w WAN) family(v6 bool) Family {
	if v6 {
		return w.IPv6
	}
	return w.IPv4
}

// resolvers plans this host's ways to the DNS servers of WANs: each over its own,
// which is often the only one where it answers. While that WAN is dead it is
// unreachable, which a forwarder learns at once and asks the next; the last
// ones left are tried over whatever works.
func (m *maker) resolvers() {
	p := &m.plan
	via := make(map[netip.Addr]int) // table; the first WAN that works has it
	var servers []netip.Addr
	alive := false
	for i, w := range p.WANs {
		for _, s := range m.dns(m.Config.WANs[i]) {
			if via[s] == 0 {
				servers = append(servers, s)
				via[s] = TableNowhere
			}
			if via[s] == TableNowhere && w.Usable && w.steered(s.Is6()).Usable {
				via[s] = w.Table()
				alive = true
			}
		}
	}
	if !alive {
		return
	}
	for _, s := range servers {
		p.Rules = append(p.Rules, Rule{Pref: PrefDNS, IPv6: s.Is6(), Dest: netip.PrefixFrom(s, s.BitLen()), Own: true, Table: via[s]})
	}
}

// dns are the servers that netifd has learned on a WAN.
func (m *maker) dns(c config.WAN) (servers []netip.Addr) {
	for _, in := range m.interfaces(c) {
		for _, s := range in.DNS {
			if !m.ours(s) && !slices.Contains(servers, s) {
				servers = append(servers, s)
			}
		}
	}
	return servers
}

// interfaces are the netifd interfaces that are a WAN's line.
func (m *maker) interfaces(c config.WAN) (all []netstate.Interface) {
	for _, name := range c.Interfaces {
		if i := m.netInterface(name); i >= 0 {
			all = append(all, m.line(m.Net.Interfaces[i])...)
		}
	}
	return all
}

// ours says whether this host has an address, or is in the network of it
// other than over a WAN.
func (m *maker) ours(a netip.Addr) bool {
	if a.IsLoopback() || a.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(m.insidePrefixes(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// flows plans which entries of connection tracking may stay.
func (m *maker) flows() {
	p := &m.plan
	for _, w := range p.WANs {
		p.Flows = append(p.Flows, FlowWAN{
			Mark: w.Mark(), IPv4: w.Usable && w.IPv4.Usable, IPv6: w.Usable && w.IPv6.Usable, Addrs: w.Addrs,
			Main4: m.hasMainDefault(w, false), Main6: m.hasMainDefault(w, true),
		})
	}
}

// hasMainDefault says whether the main table's best default route is a WAN's.
func (m *maker) hasMainDefault(w WAN, v6 bool) bool {
	best, device := -1, ""
	for _, l := range m.Net.Links {
		for _, d := range l.Defaults {
			if d.IPv6 == v6 && (best < 0 || d.Metric < best) {
				best, device = d.Metric, l.Name
			}
		}
	}
	over, _ := w.over(v6)
	return device != "" && device == over
}

// shares divides a family's flows among the WANs of the highest role of which
// one works. WANs of that role that do not work keep their place, so that the
// flows of the others stay where they are.
func (m *maker) shares(v6 bool) (shares []Share) {
	if !m.Config.Globals.Steer {
		return nil
	}
	roles := m.roles()
	for _, group := range [][]config.Role{{config.RolePrimary, config.RoleBond}, {config.RoleOverflow}, {config.RoleBackup}} {
		usable := false
		shares = nil
		for i, w := range m.plan.WANs {
			if !slices.Contains(group, roles[w.Name]) {
				continue
			}
			s := Share{Mark: w.Mark(), Weight: m.Config.WANs[i].Weight, Usable: w.Usable && w.steered(v6).Usable}
			// A bond is held because it does harm, an overflow because it is
			// not needed, which as the highest role it is.
			if w.Held && group[0] == config.RolePrimary {
				s.Usable = false
			}
			usable = usable || s.Usable
			shares = append(shares, s)
		}
		if usable {
			return shares
		}
	}
	return nil
}

// rules are those of the configuration.
func (m *maker) rules() (rules []FirewallRule) {
	for _, r := range m.Config.Rules {
		f := FirewallRule{
			Section: r.Name, Name: identifier(r.Name), Sources: r.Sources, MACs: r.MACs, Dests: r.Dests, Domains: r.Domains,
			Proto: r.Proto, Ports: r.DestPorts, Path: r.Path,
		}
		for _, w := range m.plan.WANs {
			if w.Name != r.WAN {
				continue
			}
			if w.Usable {
				f.Mark = w.Mark()
			} else {
				m.problem(r.Name, "wan", fmt.Sprintf("%s does not work: its flows take another WAN", w.Name))
			}
		}
		rules = append(rules, f)
	}
	return rules
}

// identifier keeps what may be part of a set's name: of @rule[0], rule0.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return -1
	}, name)
}

// translations are what the sources of steered IPv6 become on a WAN: those
// inside that are not of prefixes which this WAN routes here.
func (m *maker) translations(i int) (all []Translation) {
	w, c := m.plan.WANs[i], m.Config.WANs[i]
	if !w.IPv6.Source.IsValid() {
		return nil
	}
	to := m.outside(w, c)
	for _, inside := range m.insidePrefixes() {
		if inside.Addr().Is4() || m.owner(inside) == i {
			continue
		}
		t := Translation{From: inside}
		if m.Config.Globals.IPv6 == config.IPv6NPT && to.IsValid() && to.Bits() <= inside.Bits() {
			t.To = netip.PrefixFrom(to.Addr(), inside.Bits())
			to = netip.Prefix{} // hosts of two prefixes would clash in one
		}
		all = append(all, t)
	}
	if inner := w.CLAT.Inner; inner.IsValid() {
		all = append(all, Translation{From: netip.PrefixFrom(inner, inner.BitLen())})
	}
	return all
}

// owner is the WAN that routes a prefix to this host, by its place; -1 if
// none does. netifd knows; a carrier may have given the LAN the prefix of the
// line itself; and what remains is of the fixed line that is first by role, or
// the LAN would have had no IPv6 without braid. A line that is down may own it
// all the same.
func (m *maker) owner(inside netip.Prefix) int {
	if inside.Addr().IsPrivate() {
		return -1 // unique local (RFC 4193)
	}
	for i, c := range m.Config.WANs {
		for _, in := range m.interfaces(c) {
			if slices.ContainsFunc(in.Prefixes, inside.Overlaps) {
				return i
			}
		}
		if slices.ContainsFunc(m.plan.WANs[i].Addrs, inside.Contains) {
			return i
		}
	}
	roles, best := m.roles(), -1
	for i, w := range m.plan.WANs {
		without := w.IPv4.Source.IsValid() && !w.IPv6.Source.IsValid()
		if w.Kind != config.KindFixed || roles[w.Name] == config.RoleOff || without {
			continue
		}
		if best < 0 || roles[w.Name] == config.RolePrimary {
			best = i
		}
	}
	return best
}

// outside is a prefix that a WAN routes to this host: one that is delegated
// over it, else, as carriers do, that of its address.
func (m *maker) outside(w WAN, c config.WAN) netip.Prefix {
	var all []netip.Prefix
	for _, in := range m.interfaces(c) {
		all = append(all, in.Prefixes...)
	}
	if len(all) > 0 {
		return slices.MinFunc(all, func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) })
	}
	link, _ := m.Net.Link(w.Device)
	for _, a := range link.Addrs {
		if w.Kind == config.KindCellular && a.Prefix.Addr() == w.IPv6.Source {
			return a.Prefix.Masked()
		}
	}
	return netip.Prefix{}
}

// insidePrefixes are the networks on devices that are no WANs.
func (m *maker) insidePrefixes() (nets []netip.Prefix) {
	for _, l := range m.Net.Links {
		if l.Loopback || slices.ContainsFunc(m.plan.WANs, func(w WAN) bool { return w.Link == l.Index || w.Link4 == l.Index }) {
			continue
		}
		for _, a := range l.Addrs {
			if net := a.Prefix.Masked(); !a.Prefix.Addr().IsLinkLocalUnicast() && !slices.Contains(nets, net) {
				nets = append(nets, net)
			}
		}
	}
	return nets
}
