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
	"braid/agent/nameserver"
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

// Kept is a host and a server that have something open over a WAN: what they
// open next leaves by it too, whichever WAN is theirs by now. Servers of FTP
// serve data only where the commands come from.
type Kept struct {
	Host, Server netip.Addr
	Mark         uint32
}

// FlowWAN says which connection tracking entries of a WAN are still good.
type FlowWAN struct {
	Mark         uint32
	IPv4, IPv6   bool         // the WAN works in this family
	New4, New6   int          // its weight among those that get new flows; 0: it gets none
	Addrs        []netip.Addr // none: those of the flows are the firewall's choice
	Main4, Main6 bool         // without braid, flows go there
}

// steer plans where everything goes that is not intercepted, behind what
// everybody else has decided: what the main table has a route for that is no
// default goes as it says, flows that carry a WAN's mark over that WAN, all
// else, this host's own traffic among it, over the best one.
func (m *maker) steer() {
	steers := m.Config.Globals.Steer
	for _, v6 := range []bool{false, true} {
		if m.family(v6).Left {
			continue
		}
		m.last(Rule{IPv6: v6, Table: TableMain, Specific: true, Mask: MarkForeign})
		if steers {
			m.resolvers(v6)
		}
		m.borrowed(v6)
		for _, w := range m.plan.WANs {
			if l, ok := w.Forwarding(v6); ok {
				m.last(Rule{IPv6: v6, Mark: w.Mark(), Mask: MarkForeign | MarkWAN, Table: l.Table})
			}
		}
		if l, ok := m.best(v6); ok && steers {
			m.last(Rule{IPv6: v6, Mask: MarkForeign | MarkWAN | MarkIntercept, Table: l.Table})
		}
	}
	m.flows()
}

// last adds a rule behind all others.
func (m *maker) last(r Rule) {
	r.Pref = PrefTail
	m.plan.Rules = append(m.plan.Rules, r)
}

// borrowed lets subflows out that start from an address inside. Other traffic
// from it has been decided about before.
func (m *maker) borrowed(v6 bool) {
	for _, w := range m.plan.WANs {
		for _, l := range w.Legs {
			if l.IPv6 == v6 && l.Borrowed && l.Subflows {
				m.last(Rule{IPv6: v6, Source: host(l.Source), Mask: MarkForeign, Table: l.Table})
			}
		}
	}
}

// groups are the roles that share flows with each other, the ones that go
// first before the others.
var groups = [][]config.Role{{config.RolePrimary, config.RoleBond}, {config.RoleOverflow}, {config.RoleBackup}}

// best is the leg by which a family's traffic leaves that no flow's mark says
// anything of.
func (m *maker) best(v6 bool) (Leg, bool) {
	i := m.group(v6)
	if i < 0 {
		return Leg{}, false
	}
	for _, role := range groups[i] {
		for _, w := range m.plan.WANs {
			if w.Role == role && m.forwards(w, v6) {
				return w.Forwarding(v6)
			}
		}
	}
	for _, w := range m.plan.WANs { // that stands in for the primary
		if w.Role == config.RolePrimary && m.forwards(w, v6) {
			return w.Forwarding(v6)
		}
	}
	return Leg{}, false
}

// forwards says whether flows of a family may be sent over a WAN now.
func (m *maker) forwards(w WAN, v6 bool) bool { return w.forwards(v6) && !m.barred(w, v6) }

// group is the one, by its place in groups, whose WANs carry a family: the first
// of which one works; -1 if there is none. A lower role is not pulled up by a
// family that working WANs above it do not have.
func (m *maker) group(v6 bool) int {
	i, _ := m.carriers(v6)
	return i
}

// carriers is the group, or the place of the one whose lack of the family keeps
// those behind it from carrying it.
func (m *maker) carriers(v6 bool) (group, lacking int) {
	roles := m.roles()
	for i, group := range groups {
		works, has, carries := false, false, false
		for _, w := range m.plan.WANs {
			if slices.Contains(group, roles[w.Name]) {
				_, leg := w.Forwarding(v6)
				works, has, carries = works || w.Usable, has || leg, carries || m.forwards(w, v6)
			}
		}
		switch {
		case carries:
			return i, -1
		case works && !has:
			return -1, i
		}
	}
	return -1, -1
}

// spared are the devices of WANs that a family does not pull up.
func (m *maker) spared(v6 bool) (devices []string) {
	_, lacking := m.carriers(v6)
	if lacking < 0 || !m.Config.Globals.Steer {
		return nil
	}
	roles := m.roles()
	for _, w := range m.plan.WANs {
		lower := slices.ContainsFunc(groups[lacking+1:], func(g []config.Role) bool { return slices.Contains(g, roles[w.Name]) })
		if l, ok := w.Forwarding(v6); ok && lower {
			devices = append(devices, l.Device)
		}
	}
	return devices
}

// resolvers plans this host's ways to the DNS servers of WANs: each over its own,
// which is often the only one where it answers. A dead WAN's server is asked
// over whatever works, until it has been seen to be silent there; a private one
// is nobody's but that WAN's. What does not answer is unreachable, which a
// forwarder learns at once and asks the next.
func (m *maker) resolvers(v6 bool) {
	tables := make(map[netip.Addr]int) // of the first WAN that works; 0: none
	var servers []netip.Addr
	for i, w := range m.plan.WANs {
		for _, s := range m.dns(m.Config.WANs[i]) {
			if s.Is6() != v6 {
				continue
			}
			if !slices.Contains(servers, s) {
				servers = append(servers, s)
			}
			if l, _ := w.Forwarding(v6); tables[s] == 0 && w.forwards(v6) {
				tables[s] = l.Table
			}
		}
	}
	other, found := m.best(v6)
	for _, s := range servers {
		table := tables[s]
		if table == 0 {
			if !found {
				continue
			}
			t := nameserver.Target{Server: s, Device: other.Device, Source: other.Source}
			if !internal(s) {
				m.plan.Nameservers = append(m.plan.Nameservers, t)
			}
			if !internal(s) && !m.Silent[t] {
				continue
			}
			table = TableNowhere
		}
		m.last(Rule{IPv6: v6, Dest: host(s), Own: true, Port: portDNS, Mask: MarkForeign, Table: table})
	}
}

// carrierGrade is the address space of carriers' NATs (RFC 6598).
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// internal addresses mean something else on every network.
func internal(a netip.Addr) bool { return a.IsPrivate() || carrierGrade.Contains(a) }

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
	p, shares := &m.plan, [2][]Share{m.shares(false), m.shares(true)}
	for _, w := range p.WANs {
		addrs := w.Addrs()
		if l, ok := w.Forwarding(false); ok && !l.Source.IsValid() {
			addrs = nil
		}
		p.Flows = append(p.Flows, FlowWAN{
			Mark: w.Mark(), IPv4: w.forwards(false), IPv6: w.forwards(true), Addrs: addrs,
			New4: weight(shares[0], w), New6: weight(shares[1], w),
			Main4: m.hasMainDefault(w, false), Main6: m.hasMainDefault(w, true),
		})
	}
}

// weight is a WAN's among those that get new flows.
func weight(shares []Share, w WAN) int {
	i := slices.IndexFunc(shares, func(s Share) bool { return s.Mark == w.Mark() && s.Usable })
	if i < 0 {
		return 0
	}
	return shares[i].Weight
}

// mostKept is for how many hosts and servers of a family the packet filter has an
// entry, and mostOfHost for how many of one host.
const mostKept, mostOfHost = 512, 64

// kept are the hosts and servers of a family that keep their WAN, which works and
// does not get all that is new anyway. Who has come in from outside keeps its WAN
// as it is.
func (m *maker) kept(v6 bool) (kept []Kept) {
	if len(m.Kept) == 0 {
		return nil
	}
	marks, ofHost, inside, shares := make(map[uint32]bool), make(map[netip.Addr]int), m.insidePrefixes(), m.shares(v6)
	for _, w := range m.plan.WANs {
		if m.forwards(w, v6) {
			marks[w.Mark()] = true
		}
	}
	for _, k := range m.Kept {
		switch {
		case k.Server.Is6() != v6, !marks[k.Mark], ofHost[k.Host] == mostOfHost, len(kept) == mostKept:
		case !slices.ContainsFunc(shares, func(s Share) bool { return s.Usable && s.Weight > 0 && s.Mark != k.Mark }):
		case !slices.ContainsFunc(inside, func(p netip.Prefix) bool { return p.Contains(k.Server) }):
			kept = append(kept, k)
			ofHost[k.Host]++
		}
	}
	return kept
}

// hasMainDefault says whether the main table's best default route is a WAN's.
func (m *maker) hasMainDefault(w WAN, v6 bool) bool {
	device, found := m.defaultOf(TableMain, v6)
	return found && slices.Contains(m.devices[w.Index-1], device)
}

// shares divides a family's flows among the WANs of the highest role of which
// one works. WANs of that role that do not work keep their place, so that the
// flows of the others stay where they are.
func (m *maker) shares(v6 bool) (shares []Share) {
	if !m.Config.Globals.Steer || m.family(v6).Left {
		return nil
	}
	i := m.group(v6)
	if i < 0 {
		return nil
	}
	roles, usable := m.roles(), false
	for j, w := range m.plan.WANs {
		if !slices.Contains(groups[i], roles[w.Name]) {
			continue
		}
		s := Share{Mark: w.Mark(), Weight: m.Config.WANs[j].Weight, Usable: m.forwards(w, v6)}
		// A bond is held because it does harm, an overflow because it is
		// not needed, which as the highest role it is.
		if w.Held && i == 0 {
			s.Usable = false
		}
		usable = usable || s.Usable
		shares = append(shares, s)
	}
	if !usable {
		return nil
	}
	return shares
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
	for _, l := range w.Legs {
		if !l.IPv6 || !l.Source.IsValid() {
			continue
		}
		to := m.outside(w, l, c)
		for _, inside := range m.insidePrefixes() {
			if inside.Addr().Is4() || m.owner(inside) == i {
				continue
			}
			t := Translation{Device: l.Device, From: inside}
			if m.Config.Globals.IPv6 == config.IPv6NPT && to.IsValid() && to.Bits() <= inside.Bits() {
				t.To = netip.PrefixFrom(to.Addr(), inside.Bits())
				to = netip.Prefix{} // hosts of two prefixes would clash in one
			}
			all = append(all, t)
		}
		for _, o := range w.Legs {
			if o.CLAT.Inner.IsValid() {
				all = append(all, Translation{Device: l.Device, From: host(o.CLAT.Inner)})
			}
		}
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
		if slices.ContainsFunc(m.plan.WANs[i].Addrs(), inside.Contains) {
			return i
		}
	}
	roles, best := m.roles(), -1
	for i, w := range m.plan.WANs {
		_, has4 := w.Starting(false)
		_, has6 := w.Starting(true)
		without := has4 && !has6
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
func (m *maker) outside(w WAN, l Leg, c config.WAN) netip.Prefix {
	var all []netip.Prefix
	for _, in := range m.interfaces(c) {
		all = append(all, in.Prefixes...)
	}
	if len(all) > 0 {
		return slices.MinFunc(all, func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) })
	}
	link, _ := m.Net.Link(l.Device)
	for _, a := range link.Addrs {
		if w.Kind == config.KindCellular && a.Prefix.Addr() == l.Source {
			return a.Prefix.Masked()
		}
	}
	return netip.Prefix{}
}

// Signed are the kinds of TCP options by which both ends sign each segment with
// its addresses and ports: MD5 (RFC 2385) and AO (RFC 5925). Nobody between
// them can end such a connection.
var Signed = []uint8{19, 29}

// Privileged are the ports below which only a system's administrator may start
// (RFC 1700): servers of NFS, rsh and LPD ask for that, and translation keeps to
// it.
const Privileged = 1024

// LeastHops is the least time to live of a SYN that is taken. Systems start at
// 64, 128 or 255; traces count up from 1 to 30 and want to hear of each router,
// not of a server next door.
const LeastHops = 32
