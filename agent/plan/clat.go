// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
)

// CLAT is a translator of ours that lends IPv4 to a WAN which has IPv6 and a
// NAT64 (RFC 6877).
type CLAT struct {
	Device string
	IPv4   netip.Addr
	Prefix netip.Prefix // the network's NAT64
	Inner  netip.Addr   // for which the WAN's address is exchanged in translated packets
}

// IPv6Only is a WAN without IPv4 of its own, whose network may have a NAT64.
type IPv6Only struct {
	WAN    string
	Index  int // that of the WAN
	Device string
	Link   int
	DNS    []netip.Addr // the network's own servers
}

// translator gives a WAN that has IPv6 alone the leg of a translator of ours.
func (m *maker) translator(w *WAN) {
	c := m.CLAT[w.Name]
	l, ok := m.Net.Link(c.Device)
	if !ok || !l.Up || !m.wantsCLAT(*w) {
		return
	}
	m.addLeg(w, Leg{
		Device: l.Name, Link: l.Index, Origin: OriginCLAT, Addrs: []netip.Addr{c.IPv4}, Sources: []netip.Addr{c.IPv4}, CLAT: c,
	})
}

// wantsCLAT says whether a WAN has IPv6, and no IPv4 from which subflows could
// start.
func (m *maker) wantsCLAT(w WAN) bool {
	has := func(v6 bool) bool {
		return slices.ContainsFunc(w.Legs, func(l Leg) bool {
			return l.IPv6 == v6 && l.Source.IsValid() && l.Origin != OriginCLAT
		})
	}
	return has(true) && !has(false)
}

// findIPv6Only lists the WANs that a translator of ours would help.
func (m *maker) findIPv6Only() {
	for i, w := range m.plan.WANs {
		if w.Role == config.RoleOff || w.Idle || !m.wantsCLAT(w) {
			continue
		}
		l, _ := w.Forwarding(true)
		servers := slices.DeleteFunc(m.dns(m.Config.WANs[i]), netip.Addr.Is4)
		m.plan.IPv6Only = append(m.plan.IPv6Only, IPv6Only{w.Name, w.Index, l.Device, l.Link, servers})
	}
}

// routeTranslated lets what a translator makes of packets out by the WAN, and
// the answers into ours: netifd sees to that for its own.
func (m *maker) routeTranslated(w WAN, l Leg) {
	over, ok := w.Forwarding(true)
	if !l.Origin.translated() || l.IPv6 || !ok {
		return
	}
	p := &m.plan
	p.Rules = append(p.Rules, Rule{Pref: PrefSource, IPv6: true, In: l.Device, Table: over.Table})
	if l.CLAT.Inner.IsValid() {
		inner := netip.PrefixFrom(l.CLAT.Inner, l.CLAT.Inner.BitLen())
		p.Routes = append(p.Routes, Route{Table: l.Table, Dest: inner, Link: l.Link})
		p.Rules = append(p.Rules, Rule{Pref: PrefInner, IPv6: true, Dest: inner, Table: l.Table})
	}
}
