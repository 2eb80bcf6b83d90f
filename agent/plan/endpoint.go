// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"

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
// fullmesh endpoints do.
func (m *maker) addEndpoints() {
	primary, ok := m.plan.Primary()
	if !ok {
		return
	}
	first4 := m.dialsIPv4(primary)
	limits := mptcp.Limits{Subflows: maxSubflows}
	var second []mptcp.Endpoint // of WANs with both families: for servers that have only the other
	for _, w := range m.plan.WANs {
		if !w.Usable {
			continue
		}
		first, other := w.IPv4.Addr(), w.IPv6.Addr()
		if !first4 {
			first, other = other, first
		}
		flags := mptcp.FlagSubflow
		if w.Role == config.RoleBackup || w.Held {
			flags |= mptcp.FlagBackup
		}
		if !first.IsValid() {
			first, other = other, netip.Addr{}
			flags |= mptcp.FlagFullmesh
			limits.AddAddrsAccepted = maxAddAddrs
		}
		if first.IsValid() {
			m.addEndpoint(w, first, flags)
		}
		if other.IsValid() {
			second = append(second, mptcp.Endpoint{ID: uint8(w.Index), Addr: other, Flags: flags})
		}
	}
	for _, e := range second {
		m.addEndpoint(m.plan.WANs[int(e.ID)-1], e.Addr, e.Flags)
	}
	m.plan.Limits = &limits
}

// Addr is the address from which subflows may start, or the invalid one.
func (f Family) Addr() netip.Addr {
	if !f.Usable {
		return netip.Addr{}
	}
	return f.Source
}

// addEndpoint gives the endpoint an id that follows from WAN and family, so
// that it stays the same while other WANs come and go.
func (m *maker) addEndpoint(w WAN, a netip.Addr, flags mptcp.EndpointFlags) {
	eps := m.plan.Endpoints
	if len(eps) == maxEndpoints {
		m.problem(w.Name, "", fmt.Sprintf("no subflows from %v: the kernel takes %d endpoints", a, maxEndpoints))
		return
	}
	const ids = EndpointLast - EndpointFirst + 1
	slot := (w.Index - 1) * 2
	if a.Is6() {
		slot++
	}
	id := uint8(EndpointFirst + slot%ids)
	for slices.ContainsFunc(eps, func(e mptcp.Endpoint) bool { return e.ID == id }) {
		slot++ // more than 16 WANs share the ids
		id = uint8(EndpointFirst + slot%ids)
	}
	_, link := w.over(a.Is6())
	m.plan.Endpoints = append(eps, mptcp.Endpoint{ID: id, Addr: a, Device: link, Flags: flags})
}

// dialsIPv4 says in which family first subflows are dialled: IPv4 where the
// primary and a converter have it.
func (m *maker) dialsIPv4(primary WAN) bool {
	if !primary.IPv4.Usable || !primary.IPv6.Usable {
		return primary.IPv4.Usable
	}
	for _, c := range m.Config.Converters {
		addrs := m.ConverterAddrs(c)
		if len(addrs) > 0 {
			return slices.ContainsFunc(addrs, netip.Addr.Is4)
		}
	}
	return true
}

// probe plans who is asked, over each WAN and in each family, whether the path
// works. WANs that do not work now are asked too, or they would never again.
func (m *maker) probe() {
	for i, w := range m.plan.WANs {
		if w.Role == config.RoleOff {
			continue
		}
		for _, f := range []Family{w.IPv4, w.IPv6} {
			if f.Source.IsValid() {
				device, _ := w.over(f.Source.Is6())
				m.plan.Probes = append(m.plan.Probes, health.Target{
					Path:    health.Path{WAN: w.Name, IPv6: f.Source.Is6()},
					Device:  device,
					Source:  f.Source,
					Ways:    m.ways(m.Config.WANs[i], f.Source.Is6()),
					Patient: w.Kind == config.KindCellular,
				})
			}
		}
	}
}

// ways are how a WAN is asked: the addresses of its own list, else those of the
// converters, whose ports answer where no ping is answered.
func (m *maker) ways(c config.WAN, v6 bool) (w health.Ways) {
	n := 0
	add := func(a netip.Addr, port uint16) {
		if a.Is6() == v6 && n < len(w) {
			w[n] = netip.AddrPortFrom(a, port)
			n++
		}
	}
	for _, a := range c.Probes {
		add(a, 0)
	}
	if len(c.Probes) > 0 {
		return w
	}
	for _, conv := range m.Config.Converters {
		for _, a := range m.ConverterAddrs(conv) {
			add(a, 0)
			add(a, conv.Port)
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
	}
	for _, w := range p.WANs {
		if w.IPv4.Source.IsValid() {
			// Strict filtering drops what comes in over a WAN that is not the
			// default route, answers to joins among it.
			device, _ := w.over(false)
			p.Sysctls = append(p.Sysctls, Sysctl{"net/ipv4/conf/" + device + "/rp_filter", "2"})
		}
	}
}

// filter plans which of the LAN's TCP is taken. Without a WAN there is
// nothing to take it to, and the system answers as it would without braid.
func (m *maker) filter() {
	f := Firewall{LANDevices: m.lanDevices(), LAN: m.lanPrefixes(), Access: m.accessPrefixes(), Ports: m.Ports,
		Late:      m.Config.Globals.Accept == config.AcceptLate,
		PassMPTCP: m.Config.Globals.LANMPTCP == config.LANMPTCPPass,
		BlockQUIC: m.Config.Globals.BlockQUIC,
		Rules:     m.rules(),
		Shares4:   m.shares(false),
		Shares6:   m.shares(true),
	}
	if len(f.LANDevices) == 0 {
		m.problem("globals", "lan", fmt.Sprintf("none of %v is there: nothing is intercepted", m.Config.Globals.LAN))
		return
	}
	usable := false
	for i, w := range m.plan.WANs {
		usable = usable || w.Usable
		if w.Link == 0 || w.Role == config.RoleOff {
			continue
		}
		// The main table may well send a SYN to a WAN that is dead.
		fw := FirewallWAN{Device: w.Device, Mark: w.Mark(), Translate: m.translations(i)}
		for _, a := range w.Addrs {
			if a.Is4() && w.Link4 == 0 {
				fw.Addrs = append(fw.Addrs, a)
			}
		}
		f.WANs = append(f.WANs, fw)
		if w.CLAT.Inner.IsValid() {
			f.CLATs = append(f.CLATs, w.CLAT)
		}
	}
	for _, c := range m.Config.Converters {
		f.Converters = append(f.Converters, m.ConverterAddrs(c)...)
	}
	slices.SortFunc(f.Converters, netip.Addr.Compare)
	f.Converters = slices.Compact(f.Converters)
	if usable && f.Ports != (Ports{}) {
		m.plan.Firewall = &f
	}
}
