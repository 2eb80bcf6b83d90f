// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"braid/agent/config"
	"braid/agent/health"
	"braid/transport/mptcp"
)

// Kernels up to 6.18 allow no more.
const (
	maxEndpoints = 8
	maxSubflows  = 8
)

// maxAddAddrs is how many announced addresses a connection may use; more than
// the converter's other family would only bring second subflows over a WAN.
const maxAddAddrs = 1

// addEndpoints plans one subflow per WAN and connection.
//
// A plain subflow endpoint joins the connections whose peer was dialled in
// its own family. A WAN that lacks the family in which first subflows are
// dialled can only join by an address that the peer announces, which is what
// fullmesh endpoints do. So does one that lacks IPv4 where others have it: it
// has no other way to a server that has only that.
func (m *maker) addEndpoints() {
	if len(m.plan.Network.Legs) == 0 {
		return
	}
	first := m.plan.Network.StartsIPv6
	limits := mptcp.Limits{Subflows: maxSubflows}
	type second struct { // of WANs with both families: for servers that have only the other
		wan   WAN
		v6    bool
		flags mptcp.EndpointFlags
	}
	var seconds []second
	for _, w := range m.plan.WANs {
		flags := mptcp.FlagSubflow
		if w.Role == config.RoleBackup || w.Held {
			flags |= mptcp.FlagBackup
		}
		v6 := first
		if !w.source(v6).IsValid() {
			v6 = !first
		}
		if !w.source(v6).IsValid() {
			continue
		}
		own := flags
		if v6 != first || m.lacksIPv4(w) {
			limits.AddAddrsAccepted = maxAddAddrs
			own |= mptcp.FlagFullmesh
		}
		if v6 == first && m.waits(w) { // what the peer announces is heard only at a connection's start
			m.wait(w)
			continue
		}
		m.addEndpoint(w, v6, own)
		if v6 == first && w.source(!first).IsValid() {
			if m.beside(w) {
				limits.AddAddrsAccepted = maxAddAddrs
				flags |= mptcp.FlagFullmesh
			}
			seconds = append(seconds, second{w, !first, flags})
		}
	}
	for _, s := range seconds {
		m.addEndpoint(s.wan, s.v6, s.flags)
	}
	m.plan.Limits = &limits
	m.plan.Network.KeepMapped = m.keepMapped()
}

// lacksIPv4 says whether a WAN has none, while another one has it: not only for the
// moment, for an endpoint whose flags change loses its subflows, and where first ones start
// from it, a connection that has no other yet gets nothing more. So there, what a
// translator makes of IPv6 does not count, which comes a moment after the line.
func (m *maker) lacksIPv4(w WAN) bool {
	own, has := w.Starting(false)
	has = has && !(m.plan.Network.StartsIPv6 && own.Origin.translated())
	return !has && slices.ContainsFunc(m.plan.WANs, func(o WAN) bool {
		_, ok := o.Starting(false)
		return ok && o.Name != w.Name
	})
}

// beside says whether a converter stands on the path of another WAN: what it
// answers for a server is joined by the address that it lends alone, in whatever
// family.
func (m *maker) beside(w WAN) bool {
	return slices.ContainsFunc(m.Config.Converters, func(c config.Converter) bool { return c.OnPath != "" }) &&
		!slices.ContainsFunc(m.Config.Converters, func(c config.Converter) bool { return c.OnPath == w.Name })
}

// addEndpoint gives the endpoint an id that follows from WAN and family, so
// that it stays the same while other WANs come and go.
func (m *maker) addEndpoint(w WAN, v6 bool, flags mptcp.EndpointFlags) {
	l, _ := w.Starting(v6)
	eps := m.plan.Endpoints
	if len(eps) == maxEndpoints {
		m.problem(w.Name, "", fmt.Sprintf("no subflows from %v: the kernel takes %d endpoints", l.Source, maxEndpoints))
		return
	}
	const ids = EndpointLast - EndpointFirst + 1
	slot := (w.Index - 1) * 2
	if v6 {
		slot++
	}
	id := uint8(EndpointFirst + slot%ids)
	for slices.ContainsFunc(eps, func(e mptcp.Endpoint) bool { return e.ID == id }) {
		slot++ // more than 16 WANs share the ids
		id = uint8(EndpointFirst + slot%ids)
	}
	m.plan.Endpoints = append(eps, mptcp.Endpoint{ID: id, Addr: l.Source, Device: l.Link, Flags: flags})
}

// probe plans who is asked, over each leg, whether it works. Those that do not
// work now are asked too, or they would never again.
func (m *maker) probe() {
	for i, w := range m.plan.WANs {
		if w.Role == config.RoleOff {
			continue
		}
		for _, l := range w.Legs {
			if !l.Source.IsValid() {
				continue
			}
			t := health.Target{
				Leg: w.Health(l), Source: l.Source, Ways: m.ways(m.Config.WANs[i], l.IPv6), MTU: m.deviceMTU(w, l),
				Patient: w.Kind == config.KindCellular, Quiet: w.Idle,
			}
			copy(t.Others[:], slices.DeleteFunc(slices.Clone(l.Sources), func(a netip.Addr) bool { return a == l.Source }))
			m.plan.Probes = append(m.plan.Probes, t)
		}
	}
}

// ways are how a WAN is asked: the addresses of its own list; the converters,
// whose ports answer where no ping is answered; and, so that one peer's silence
// is told from a line's, who the other WANs are asked about.
func (m *maker) ways(c config.WAN, v6 bool) (w health.Ways) {
	n := 0
	add := func(a netip.Addr, port uint16) {
		to := netip.AddrPortFrom(a, port)
		if a.Is6() == v6 && n < len(w) && !slices.Contains(w[:n], to) {
			w[n] = to
			n++
		}
	}
	for _, a := range c.Probes {
		add(a, 0)
	}
	for _, conv := range m.Config.Converters {
		for _, a := range m.ConverterAddrs(conv) {
			add(a, 0)
			add(a, conv.Port)
		}
	}
	for _, other := range m.Config.WANs {
		for _, a := range other.Probes {
			add(a, 0)
		}
	}
	return w
}

// setSysctls plans what MPTCP over several WANs needs of the kernel.
func (m *maker) setSysctls() {
	p := &m.plan
	p.Sysctls = []Sysctl{
		{"net/mptcp/enabled", "1"},
		// A burst of lost SYNs would otherwise switch MPTCP off for everybody
		// for an hour (kernel 6.14).
		{"net/mptcp/blackhole_timeout", "0"},
		// Seconds that a connection lives on when its last subflow is gone, until
		// there is a line for another one: a modem's restart, a night's new lease.
		{"net/mptcp/close_timeout", "900"},
	}
	if m.Config.Globals.LANMPTCP == config.LANMPTCPExtend {
		// What connections carry that are none of ours, connection tracking knows.
		p.Sysctls = append(p.Sysctls, Sysctl{"net/netfilter/nf_conntrack_acct", "1"})
	}
	for _, w := range p.WANs {
		for _, l := range w.Legs {
			if l.IPv6 {
				continue
			}
			conf := "net/ipv4/conf/" + l.Device + "/"
			// Strict filtering drops what comes in over a WAN that is not the
			// default route, answers to joins among it; on a device without an
			// address the loose one does too (kernel, __fib_validate_source).
			filter := "2"
			if len(l.Addrs) == 0 {
				filter = "0"
			}
			p.Sysctls = append(p.Sysctls, Sysctl{conf + "rp_filter", filter})
			if l.Gateway.IsValid() {
				// Of two devices on one segment each answers for itself only.
				p.Sysctls = append(p.Sysctls, Sysctl{conf + "arp_ignore", "1"}, Sysctl{conf + "arp_announce", "2"})
			}
		}
	}
}

// pptp is the port of PPTP (RFC 2637 section 3), whose server takes the tunnel,
// GRE beside the connection, from nowhere else.
var pptp = config.PortRange{First: 1723, Last: 1723}

// filter plans which of the LAN's TCP is taken. Without a WAN there is
// nothing to take it to, and the system answers as it would without braid.
func (m *maker) filter() {
	f := Firewall{LANDevices: m.lanDevices(), LAN: m.lanPrefixes(), Access: m.accessPrefixes(), Ports: m.Ports,
		Late:      m.Config.Globals.Accept == config.AcceptLate,
		PassMPTCP: m.Config.Globals.LANMPTCP != config.LANMPTCPConvert,
		Extend:    m.extend(),
		BlockQUIC: m.Config.Globals.BlockQUIC,
		IPsec:     m.Net.IPsec,
		Helped:    append([]config.PortRange{pptp}, m.Helped...),
		Crowd:     m.Crowd.Hosts,
		Rules:     m.rules(),
	}
	for _, p := range f.LAN {
		if p.Addr().Is4() && !internal(p.Addr()) {
			f.Public = append(f.Public, p)
		}
	}
	if len(f.LANDevices) == 0 {
		m.problem("globals", "lan", fmt.Sprintf("none of %v is there: nothing is intercepted", m.Config.Globals.LAN))
		return
	}
	for _, v6 := range []bool{false, true} {
		family := m.family(v6)
		if family.Shares = m.shares(v6); len(family.Shares) > 0 {
			family.Kept = m.kept(v6)
		}
		if !family.Left {
			family.Spared = m.spared(v6)
		}
		family.Take = !family.Left && !m.Crowd.All && m.plan.Network.Carries(v6)
		*f.Family(v6) = *family
	}
	usable := false
	for i, w := range m.plan.WANs {
		usable = usable || w.Usable
		if len(w.Legs) == 0 || w.Role == config.RoleOff {
			continue
		}
		// The main table may well send a SYN to a WAN that is dead.
		fw := FirewallWAN{Mark: w.Mark(), Translate: m.translations(i)}
		for _, l := range w.Legs {
			if l.Origin == OriginCLAT {
				f.CLATs = append(f.CLATs, l.CLAT)
				continue
			}
			if !slices.Contains(fw.Devices, l.Device) {
				fw.Devices = append(fw.Devices, l.Device)
			}
			if !l.IPv6 {
				fw.Addrs = append(fw.Addrs, l.Addrs...)
			}
		}
		f.WANs = append(f.WANs, fw)
	}
	for _, c := range m.Config.Converters {
		f.Converters = append(f.Converters, m.ConverterAddrs(c)...)
	}
	sort.Slice(f.Converters, func(i, j int) bool { return f.Converters[i].Less(f.Converters[j]) })
	f.Converters = slices.Compact(f.Converters)
	f.Dead = m.deadLegs()
	if m.Crowd.All {
		m.problem("globals", "", "too many connections are open: new ones are not taken")
	}
	for _, host := range m.Crowd.Hosts {
		m.problem("globals", "", fmt.Sprintf("%v has too many connections open: its new ones are not taken", host))
	}
	if usable && f.Ports != (Ports{}) {
		m.plan.Firewall = &f
	}
}

// deadLegs are those that are down while another WAN carries their family. What
// this host has open there, a program of its own, would go on sending into the
// void, for minutes.
func (m *maker) deadLegs() (dead []DeadLeg) {
	for _, w := range m.plan.WANs {
		for _, l := range w.Legs {
			others := slices.ContainsFunc(m.plan.WANs, func(o WAN) bool { return o.Name != w.Name && o.forwards(l.IPv6) })
			if l.Usable() || l.Origin == OriginCLAT || !others {
				continue
			}
			d := DeadLeg{Device: l.Device, IPv6: l.IPv6}
			if m.shared(l.Device) {
				d.Addrs = l.Addrs
			}
			dead = append(dead, d)
		}
	}
	return dead
}

// lost are the addresses from which this host may have connections open that go
// on for minutes although nobody hears them: the packet filter sees none of their
// packets where the kernel does not send them at all.
func (m *maker) lost() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(m.Lost), func(a netip.Addr) bool {
		return !slices.ContainsFunc(m.plan.WANs, func(o WAN) bool { return o.forwards(a.Is6()) })
	})
}

// Narrowed are the endpoints of legs that take smaller packets than they did in
// the plan before: what joined then has told its peer another size, and hangs.
func (p Plan) Narrowed(before Plan) (eps []mptcp.Endpoint) {
	for _, e := range p.Endpoints {
		l, ok := p.leg(e.Addr)
		was, existed := before.leg(e.Addr)
		if ok && existed && l.MTU < was.MTU && l.Device == was.Device {
			eps = append(eps, e)
		}
	}
	return eps
}

// leg is the one from whose address subflows start.
func (p Plan) leg(source netip.Addr) (Leg, bool) {
	for _, w := range p.WANs {
		for _, l := range w.Legs {
			if l.Subflows && l.Source == source {
				return l, true
			}
		}
	}
	return Leg{}, false
}
