// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/netstate"
)

// findWANs matches the configured WANs with the devices that are there. A
// WAN's index follows from its place in the file, so that its mark and table
// stay the same while others come and go.
func (m *maker) findWANs() {
	for i, c := range m.Config.WANs {
		w := WAN{Name: c.Name, Index: i + 1, Device: c.Device}
		if len(c.Interfaces) > 0 {
			w.Device, w.Reason = m.interfaceDevice(c)
		}
		link, ok := m.Net.Link(w.Device)
		other := slices.IndexFunc(m.plan.WANs, func(o WAN) bool { return o.Device == w.Device })
		switch {
		case w.Device == "":
		case other >= 0:
			w.Device, w.Reason = "", fmt.Sprintf("its device %s is that of %s", w.Device, m.plan.WANs[other].Name)
			m.problem(c.Name, "interface", w.Reason)
		case !ok:
			w.Reason = fmt.Sprintf("no device %s", w.Device)
			m.problem(c.Name, "device", w.Reason)
		case !link.Up:
			w.Link, w.Reason = link.Index, fmt.Sprintf("device %s is down", w.Device)
		default:
			w.Link = link.Index
			m.address(&w, c, link)
		}
		m.kinds[c.Name] = cmp.Or(m.protocolKind(c), guessKind(link))
		m.plan.WANs = append(m.plan.WANs, w)
	}
	m.checkSameAddress()
}

// address fills in addresses and gateways, and with them and the WAN's health
// what it is good for.
func (m *maker) address(w *WAN, c config.WAN, l netstate.Link) {
	for _, a := range l.Addrs {
		addr := a.Prefix.Addr()
		w.Addrs = append(w.Addrs, addr)
		if !a.Usable {
			continue
		}
		switch {
		case addr.Is4() && !w.IPv4.Source.IsValid():
			w.IPv4.Source = addr
		case addr.Is6() && (!w.IPv6.Source.IsValid() || w.IPv6.Source.IsPrivate() && !addr.IsPrivate()):
			w.IPv6.Source = addr
		}
	}
	w.Reason = fmt.Sprintf("no address on %s", l.Name)
	for _, f := range []*Family{&w.IPv4, &w.IPv6} {
		if !f.Source.IsValid() {
			continue
		}
		v6 := f == &w.IPv6
		gateway, found := findGateway(c, l, v6)
		if !found {
			f.Source = netip.Addr{}
			w.Reason = fmt.Sprintf("no gateway on %s", l.Name)
			if !v6 { // an IPv6 address without a way out is common
				m.problem(c.Name, "gateway", w.Reason+", and no option gateway")
			}
			continue
		}
		if gateway.IsValid() {
			w.Gateways = append(w.Gateways, gateway)
		}
		h := m.Health[health.Path{WAN: c.Name, IPv6: v6}]
		f.Usable = h.Verdict != health.Down
		if !f.Usable {
			w.Reason = h.Reason
		}
	}
	m.borrow(w, c)
	w.Usable = w.IPv4.Usable || w.IPv6.Usable
	if w.Usable {
		w.Reason = ""
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
			if w.IPv4.Source.IsValid() && w.IPv4.Source == other.IPv4.Source {
				m.problem(w.Name, "", fmt.Sprintf("has the address %v of %s: no subflows over it", w.IPv4.Source, other.Name))
				w.IPv4.Usable = false
			}
		}
	}
}

// roles are those of the configuration, or what has been set instead. There
// is one primary: one that has been set makes the configured one bond.
func (m *maker) roles() map[string]config.Role {
	roles := m.Config.Roles(m.kinds)
	for wan, set := range m.Overrides {
		for name, r := range roles {
			if set == config.RolePrimary && r == set && name != wan {
				roles[name] = config.RoleBond
			}
		}
		roles[wan] = set
	}
	return roles
}

// chooseRoles gives each WAN its effective role. When the primary is not
// usable, the best of the others stands in.
func (m *maker) chooseRoles() {
	roles := m.roles()
	kinds := m.Config.Kinds(m.kinds)
	for i := range m.plan.WANs {
		w := &m.plan.WANs[i]
		w.Kind, w.Role = kinds[w.Name], roles[w.Name]
		if w.Role == config.RoleOff {
			w.Usable, w.Reason = false, "switched off"
		}
		if _, set := m.Overrides[w.Name]; set && w.Reason == "" {
			w.Reason = "set until the next reload"
		}
		if use := m.Load[w.Name]; w.Usable && use.Reason != "" {
			w.Held, w.Reason = use.Held, use.Reason
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
			w.Held = false
			return
		}
	}
}
