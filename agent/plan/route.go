// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/netstate"
)

var (
	anyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

func anywhere(v6 bool) netip.Prefix {
	if v6 {
		return anyIPv6
	}
	return anyIPv4
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// route gives every leg a table of its own, found by the source address of
// subflows and by the device that a socket is bound to, and intercepted
// packets the way to this host.
func (m *maker) route() {
	p := &m.plan
	lo := slices.IndexFunc(m.Net.Links, func(l netstate.Link) bool { return l.Loopback })
	for _, v6 := range []bool{false, true} {
		p.Routes = append(p.Routes, Route{Table: TableNowhere, Dest: anywhere(v6), Unreachable: true})
		m.passInside(TableNowhere, v6)
		if lo >= 0 {
			p.Routes = append(p.Routes, Route{Table: TableLocal, Dest: anywhere(v6), Link: m.Net.Links[lo].Index, Local: true})
			p.Rules = append(p.Rules, Rule{Pref: PrefIntercept, IPv6: v6, Mark: MarkIntercept, Mask: MarkIntercept, Table: TableLocal})
		}
	}
	holders := m.addressHolders()
	for _, w := range p.WANs {
		for _, l := range w.Legs {
			m.routeLeg(w, l, holders)
		}
	}
	m.routeLost()
}

// passInside has a table of ours not draw the answers to a host inside away
// from it, only because they have a WAN's address.
func (m *maker) passInside(table int, v6 bool) {
	for _, inside := range m.insidePrefixes() {
		if inside.Addr().Is6() == v6 {
			m.plan.Routes = append(m.plan.Routes, Route{Table: table, Dest: inside, Elsewhere: true})
		}
	}
}

// addressHolders says by which table what has a WAN's address leaves.
func (m *maker) addressHolders() map[netip.Addr]int {
	tables := make(map[netip.Addr]int)
	for _, holds := range []func(WAN, Leg, netip.Addr) bool{
		func(_ WAN, l Leg, a netip.Addr) bool { return l.Subflows && l.Source == a },
		func(w WAN, l Leg, _ netip.Addr) bool { return l.Usable() && w.Role != config.RoleOff },
		func(WAN, Leg, netip.Addr) bool { return true },
	} {
		for _, w := range m.plan.WANs {
			for _, l := range w.Legs {
				for _, a := range l.Addrs {
					if tables[a] == 0 && holds(w, l, a) {
						tables[a] = l.Table
					}
				}
			}
		}
	}
	return tables
}

func (m *maker) routeLeg(w WAN, leg Leg, holders map[netip.Addr]int) {
	p := &m.plan
	link, _ := m.Net.Link(leg.Device)
	m.passInside(leg.Table, leg.IPv6)
	var nets []netip.Prefix
	for _, a := range link.Addrs {
		if !slices.Contains(leg.Addrs, a.Prefix.Addr()) {
			continue // of the other family, or of another WAN on the device
		}
		net := a.Prefix.Masked()
		if !a.Prefix.IsSingleIP() && !slices.Contains(nets, net) && !slices.Contains(m.insidePrefixes(), net) {
			nets = append(nets, net)
			p.Routes = append(p.Routes, Route{Table: leg.Table, Dest: net, Link: leg.Link})
		}
	}
	for _, a := range leg.Addrs {
		if holders[a] == leg.Table {
			// Of this host's own, others mark packets when they have a source: those
			// are theirs, but not what goes to a converter.
			for _, c := range m.Config.Converters {
				for _, to := range m.ConverterAddrs(c) {
					if to.Is6() == leg.IPv6 && !a.IsLinkLocalUnicast() {
						p.Rules = append(p.Rules, Rule{Pref: PrefSource, IPv6: leg.IPv6, Source: host(a), Dest: host(to), Table: leg.Table})
					}
				}
			}
			p.Rules = append(p.Rules, Rule{Pref: PrefSource, IPv6: leg.IPv6, Source: host(a), Mask: MarkForeign, Table: leg.Table})
		}
	}
	p.Routes = append(p.Routes, Route{Table: leg.Table, Dest: anywhere(leg.IPv6), Gateway: leg.Gateway, Link: leg.Link, MTU: routeMTU(leg, link)})
	// Of WANs on one device, what is bound to that takes the first; sockets that
	// are for one of them are bound to an address as well.
	bound := func(r Rule) bool { return r.Pref == PrefDevice && r.IPv6 == leg.IPv6 && r.Device == leg.Device }
	if !slices.ContainsFunc(p.Rules, bound) {
		p.Rules = append(p.Rules, Rule{Pref: PrefDevice, IPv6: leg.IPv6, Device: leg.Device, Table: leg.Table})
	}
	m.routeTranslated(w, leg)
}

// routeMTU is that of a leg's default route; 0: the device's.
func routeMTU(leg Leg, link netstate.Link) int {
	if leg.MTU < link.MTU {
		return leg.MTU
	}
	return 0
}

// routeLost keeps what has the address of a WAN's device from leaving over
// another WAN, behind whose NAT it would be lost: a device that goes down takes
// its routes along, and subflows over it send again.
func (m *maker) routeLost() {
	p := &m.plan
	var lost []netip.Addr
	for _, devices := range m.devices {
		for _, name := range devices {
			link, _ := m.Net.Link(name)
			for _, a := range link.Addrs {
				addr := a.Prefix.Addr()
				has := slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Pref == PrefSource && r.Source == host(addr) })
				if (has || !link.Up) && !addr.IsLinkLocalUnicast() && !slices.Contains(lost, addr) {
					lost = append(lost, addr)
					p.Rules = append(p.Rules, Rule{Pref: PrefLost, IPv6: addr.Is6(), Source: host(addr), Mask: MarkForeign, Table: TableNowhere})
				}
			}
		}
	}
}

// lanDevices are the devices whose TCP is taken.
func (m *maker) lanDevices() (devices []string) {
	for _, name := range m.Config.Globals.LAN {
		device := name
		for _, in := range m.Net.Interfaces {
			if in.Name == name && in.L3Device != "" {
				device = in.L3Device
			}
		}
		if _, ok := m.Net.Link(device); ok && !slices.Contains(devices, device) {
			devices = append(devices, device)
		}
	}
	return devices
}

// lanPrefixes are the networks on those devices.
func (m *maker) lanPrefixes() []netip.Prefix { return m.networks(m.lanDevices()) }

// accessPrefixes are the private networks on the WANs' devices, where a modem
// or a provider's router has its page. No converter reaches these.
func (m *maker) accessPrefixes() []netip.Prefix {
	nets := m.networks(slices.Concat(m.devices...))
	return slices.DeleteFunc(nets, func(p netip.Prefix) bool { return !p.Addr().IsPrivate() })
}

func (m *maker) networks(devices []string) (nets []netip.Prefix) {
	for _, name := range devices {
		link, _ := m.Net.Link(name)
		for _, a := range link.Addrs {
			if net := a.Prefix.Masked(); !a.Prefix.Addr().IsLinkLocalUnicast() && !slices.Contains(nets, net) {
				nets = append(nets, net)
			}
		}
	}
	return nets
}

// insidePrefixes are the networks on devices that are no WANs.
func (m *maker) insidePrefixes() []netip.Prefix {
	var inside []string
	for _, l := range m.Net.Links {
		translates := slices.ContainsFunc(m.plan.WANs, func(w WAN) bool {
			return slices.ContainsFunc(w.Legs, func(leg Leg) bool { return leg.Link == l.Index })
		})
		if !l.Loopback && !translates && !m.wanDevice(l.Name) {
			inside = append(inside, l.Name)
		}
	}
	return m.networks(inside)
}
