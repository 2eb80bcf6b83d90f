// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/health"
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

// borrow gives a WAN that has IPv6 alone the IPv4 of a translator, on another
// device: one of netifd's (464xlat, DS-Lite), or ours.
func (m *maker) borrow(w *WAN, c config.WAN) {
	if w.IPv4.Source.IsValid() || !w.IPv6.Source.IsValid() {
		return
	}
	device, source := m.netifdTranslator(*w, c)
	if !source.IsValid() {
		w.CLAT = m.CLAT[w.Name]
		device, source = w.CLAT.Device, w.CLAT.IPv4
	}
	l, ok := m.Net.Link(device)
	if !ok || !l.Up || !source.IsValid() {
		w.CLAT = CLAT{}
		return
	}
	w.Device4, w.Link4, w.Addrs = l.Name, l.Index, append(w.Addrs, source)
	h := m.Health[health.Path{WAN: w.Name}]
	w.IPv4 = Family{Source: source, Usable: h.Verdict != health.Down}
	if !w.IPv4.Usable {
		w.Reason = h.Reason
	}
}

// netifdTranslator finds the IPv4 address that a dynamic interface of the
// line has on a device of its own.
func (m *maker) netifdTranslator(w WAN, c config.WAN) (device string, source netip.Addr) {
	for _, in := range m.interfaces(c) {
		if !in.Up || in.Parent == "" || in.L3Device == w.Device {
			continue
		}
		l, _ := m.Net.Link(in.L3Device)
		for _, a := range l.Addrs {
			if a.Usable && a.Prefix.Addr().Is4() {
				return l.Name, a.Prefix.Addr()
			}
		}
	}
	return "", netip.Addr{}
}

// findIPv6Only lists the WANs that a translator of ours would help.
func (m *maker) findIPv6Only() {
	for i, w := range m.plan.WANs {
		own4 := w.IPv4.Source.IsValid() && !w.CLAT.IPv4.IsValid()
		if w.Role == config.RoleOff || !w.IPv6.Source.IsValid() || own4 {
			continue
		}
		servers := slices.DeleteFunc(m.dns(m.Config.WANs[i]), netip.Addr.Is4)
		m.plan.IPv6Only = append(m.plan.IPv6Only, IPv6Only{w.Name, w.Index, w.Device, w.Link, servers})
	}
}

// over is the device of a family.
func (w WAN) over(v6 bool) (device string, link int) {
	if !v6 && w.Link4 != 0 {
		return w.Device4, w.Link4
	}
	return w.Device, w.Link
}

// steered is what a WAN has for flows that are forwarded: a translator's
// address is for our own subflows only.
func (w WAN) steered(v6 bool) Family {
	if !v6 && w.Link4 != 0 {
		return Family{}
	}
	return w.family(v6)
}

// routeTranslated lets what a translator is given into it, what it makes of
// that out by the WAN, and the answers into ours: netifd sees to that for its.
func (m *maker) routeTranslated(w WAN) {
	if w.Link4 == 0 {
		return
	}
	p := &m.plan
	p.Rules = append(p.Rules,
		Rule{Pref: PrefSource, Source: netip.PrefixFrom(w.IPv4.Source, 32), Table: w.Table()},
		Rule{Pref: PrefSource, IPv6: true, In: w.Device4, Table: w.Table()})
	if w.CLAT.Inner.IsValid() {
		inner := netip.PrefixFrom(w.CLAT.Inner, w.CLAT.Inner.BitLen())
		p.Routes = append(p.Routes, Route{Table: w.Table(), Dest: inner, Link: w.Link4})
		p.Rules = append(p.Rules, Rule{Pref: PrefLAN, IPv6: true, Dest: inner, Table: w.Table()})
	}
}
