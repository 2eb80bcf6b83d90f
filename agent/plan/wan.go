// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"braid/agent/config"
	"braid/agent/netstate"
)

// findWANs matches the configured WANs with the devices that are there. A
// WAN's index follows from its place in the file, so that its mark and table
// stay the same while others come and go.
func (m *maker) findWANs() {
	for i, c := range m.Config.WANs {
		w := WAN{Name: c.Name, Index: i + 1, Device: c.Device}
		if w.Device == "" {
			w.Device = m.interfaceDevice(c)
		}
		link, ok := m.Net.Link(w.Device)
		switch {
		case w.Device == "":
			w.Reason = "no interface of it is up"
		case !ok:
			w.Reason = fmt.Sprintf("no device %s", w.Device)
			m.problem(c.Name, "device", w.Reason)
		case !link.Up:
			w.Link, w.Reason = link.Index, fmt.Sprintf("device %s is down", w.Device)
		default:
			w.Link = link.Index
			m.address(&w, c, link)
		}
		m.kinds[c.Name] = guessKind(link)
		m.plan.WANs = append(m.plan.WANs, w)
	}
	m.checkSameAddress()
}

// interfaceDevice is the device of the first of a WAN's netifd interfaces
// that is up.
func (m *maker) interfaceDevice(c config.WAN) string {
	for _, name := range c.Interfaces {
		for _, in := range m.Net.Interfaces {
			if in.Name == name && in.Up && in.L3Device != "" {
				return in.L3Device
			}
		}
	}
	return ""
}

// address fills in addresses and gateways, and with them what the WAN is good
// for.
func (m *maker) address(w *WAN, c config.WAN, l netstate.Link) {
	for _, a := range l.Addrs {
		addr := a.Prefix.Addr()
		w.Addrs = append(w.Addrs, addr)
		if !a.Usable {
			continue
		}
		switch {
		case addr.Is4() && !w.SourceIP4.IsValid():
			w.SourceIP4 = addr
		case addr.Is6() && (!w.SourceIP6.IsValid() || w.SourceIP6.IsPrivate() && !addr.IsPrivate()):
			w.SourceIP6 = addr
		}
	}
	for _, v6 := range []bool{false, true} {
		source := w.SourceIP4
		if v6 {
			source = w.SourceIP6
		}
		if !source.IsValid() {
			continue
		}
		gateway, found := findGateway(c, l, v6)
		switch {
		case !found && v6: // an address without a way out is common there
			w.SourceIP6 = netip.Addr{}
			continue
		case !found:
			w.SourceIP4 = netip.Addr{}
			w.Reason = fmt.Sprintf("no gateway on %s", l.Name)
			m.problem(c.Name, "gateway", w.Reason+", and no option gateway")
			continue
		}
		if gateway.IsValid() {
			w.Gateways = append(w.Gateways, gateway)
		}
	}
	w.HasIPv4, w.HasIPv6 = w.SourceIP4.IsValid(), w.SourceIP6.IsValid()
	w.Usable = w.HasIPv4 || w.HasIPv6
	if w.Usable {
		w.Reason = ""
	} else if w.Reason == "" {
		w.Reason = fmt.Sprintf("no address on %s", l.Name)
	}
}

// findGateway prefers the configured gateway, then the default route with the
// lowest metric. An invalid address that was found means that the link itself
// is the way.
func findGateway(c config.WAN, l netstate.Link, v6 bool) (gateway netip.Addr, found bool) {
	for _, g := range c.Gateways {
		if g.Is6() == v6 {
			return g, true
		}
	}
	best := -1
	for i, d := range l.Defaults {
		if d.IPv6 == v6 && (best < 0 || d.Metric < l.Defaults[best].Metric) {
			best = i
		}
	}
	if best < 0 {
		return netip.Addr{}, pointToPoint(l)
	}
	return l.Defaults[best].Gateway, true
}

// pointToPoint links have no neighbours to choose a gateway among.
func pointToPoint(l netstate.Link) bool {
	return slices.Contains([]string{"tun", "ppp", "wwan", "rawip", "wireguard"}, l.Type)
}

// guessKind goes by the names that modems' devices have.
func guessKind(l netstate.Link) config.Kind {
	for _, prefix := range []string{"wwan", "wwp", "rmnet", "qmi", "mhi", "ww"} {
		if strings.HasPrefix(l.Name, prefix) {
			return config.KindCellular
		}
	}
	return config.KindFixed
}

// checkSameAddress finds WANs with an address in common, as two modem sticks
// of a kind have: MPTCP tells paths apart by address, so only the first can
// carry subflows.
func (m *maker) checkSameAddress() {
	for i := range m.plan.WANs {
		w := &m.plan.WANs[i]
		for _, other := range m.plan.WANs[:i] {
			if w.SourceIP4.IsValid() && w.SourceIP4 == other.SourceIP4 {
				m.problem(w.Name, "", fmt.Sprintf("has the address %v of %s: no subflows over it", w.SourceIP4, other.Name))
				w.SourceIP4 = netip.Addr{}
			}
		}
	}
}

// chooseRoles gives each WAN its effective role. When the primary is not
// usable, the best of the others stands in.
func (m *maker) chooseRoles() {
	roles := m.Config.Roles(m.kinds)
	kinds := m.Config.Kinds(m.kinds)
	for i := range m.plan.WANs {
		w := &m.plan.WANs[i]
		w.Kind, w.Role = kinds[w.Name], roles[w.Name]
		if w.Role == config.RoleOff {
			w.Usable, w.Reason = false, "switched off"
		}
	}
	for _, stand := range []config.Role{config.RolePrimary, config.RoleBond, config.RoleOverflow, config.RoleBackup} {
		for i := range m.plan.WANs {
			w := &m.plan.WANs[i]
			if !w.Usable || w.Role != stand {
				continue
			}
			if stand != config.RolePrimary {
				w.Role, w.Reason = config.RolePrimary, "stands in for the primary"
			}
			return
		}
	}
}
