// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/netstate"
)

var (
	anyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// route gives every WAN a table of its own, found by the source address of
// subflows and by the device that a socket is bound to, and intercepted
// packets the way to this host.
func (m *maker) route() {
	p := &m.plan
	lo := slices.IndexFunc(m.Net.Links, func(l netstate.Link) bool { return l.Loopback })
	for _, all := range []netip.Prefix{anyIPv4, anyIPv6} {
		v6 := all.Addr().Is6()
		p.Routes = append(p.Routes, Route{Table: TableNowhere, Dest: all, Unreachable: true})
		if lo >= 0 {
			p.Routes = append(p.Routes, Route{Table: TableLocal, Dest: all, Link: m.Net.Links[lo].Index, Local: true})
			p.Rules = append(p.Rules, Rule{Pref: PrefIntercept, IPv6: v6, Mark: MarkIntercept, Mask: MarkIntercept, Table: TableLocal})
		}
		// The address of a WAN must not draw the answers to a host inside away
		// from it.
		for _, lan := range m.insidePrefixes() {
			if lan.Addr().Is6() == v6 {
				p.Rules = append(p.Rules, Rule{Pref: PrefLAN, IPv6: v6, Dest: lan, Table: TableMain})
			}
		}
	}
	for _, w := range p.WANs {
		m.routeWAN(w)
	}
}

func (m *maker) routeWAN(w WAN) {
	p := &m.plan
	link, ok := m.Net.Link(w.Device)
	if !ok {
		return
	}
	var nets []netip.Prefix
	for _, a := range link.Addrs {
		addr := a.Prefix.Addr()
		has := addr.Is4() && w.IPv4.Source.IsValid() && w.Link4 == 0 || addr.Is6() && w.IPv6.Source.IsValid()
		if !has && link.Up {
			continue
		}
		// A device that goes down takes its routes along. What subflows over it
		// send again must not leave over the others, behind a NAT.
		host := netip.PrefixFrom(addr, addr.BitLen())
		if !addr.IsLinkLocalUnicast() {
			p.Rules = append(p.Rules, Rule{Pref: PrefLost, IPv6: addr.Is6(), Source: host, Table: TableNowhere})
		}
		if !has {
			continue
		}
		if net := a.Prefix.Masked(); !a.Prefix.IsSingleIP() && !slices.Contains(nets, net) {
			nets = append(nets, net)
			p.Routes = append(p.Routes, Route{Table: w.Table(), Dest: net, Link: w.Link})
		}
		p.Rules = append(p.Rules, Rule{Pref: PrefSource, IPv6: addr.Is6(), Source: host, Table: w.Table()})
	}
	for _, all := range []netip.Prefix{anyIPv4, anyIPv6} {
		v6 := all.Addr().Is6()
		if has := !v6 && w.IPv4.Source.IsValid() || v6 && w.IPv6.Source.IsValid(); !has {
			continue
		}
		device, link := w.over(v6)
		r := Route{Table: w.Table(), Dest: all, Link: link}
		for _, g := range w.Gateways {
			if g.Is6() == v6 {
				r.Gateway = g
			}
		}
		p.Routes = append(p.Routes, r)
		p.Rules = append(p.Rules, Rule{Pref: PrefDevice, IPv6: v6, Device: device, Table: w.Table()})
	}
	m.routeTranslated(w)
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
	var devices []string
	for _, w := range m.plan.WANs {
		devices = append(devices, w.Device)
	}
	return slices.DeleteFunc(m.networks(devices), func(p netip.Prefix) bool { return !p.Addr().IsPrivate() })
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
