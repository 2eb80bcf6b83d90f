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
	"braid/agent/netstate"
)

// findWANs matches the configured WANs with the devices that are there. A
// WAN's index follows from its place in the file, so that its mark and table
// stay the same while others come and go.
func (m *maker) findWANs() {
	m.findDevices()
	for i, c := range m.Config.WANs {
		w := WAN{Name: c.Name, Index: i + 1}
		for _, d := range m.devices[i] {
			link, ok := m.Net.Link(d)
			m.kinds[c.Name] = cmp.Or(m.kinds[c.Name], m.protocolKind(c), guessKind(link))
			switch {
			case !ok:
				w.Reason = cmp.Or(w.Reason, "no device "+d)
			case !link.Up:
				w.Reason = cmp.Or(w.Reason, fmt.Sprintf("device %s is down", d))
			default:
				m.legs(&w, c, link, m.interfaces(c))
			}
		}
		m.translator(&w)
		m.choose(&w, c)
		m.plan.WANs = append(m.plan.WANs, w)
	}
}

// findDevices lists the devices of each WAN, the line's own first. A device
// belongs to the first WAN that names it, and to others that have a gateway of
// their own there. The LAN's is none: of a packet that comes in by it nothing
// would tell whether a host or the line has sent it.
func (m *maker) findDevices() {
	lan := m.lanDevices()
	for _, c := range m.Config.WANs {
		devices, option := []string{c.Device}, "device"
		if len(c.Interfaces) > 0 {
			devices, option = m.interfaceDevices(c), "interface"
		}
		devices = slices.DeleteFunc(devices, func(d string) bool {
			if slices.Contains(lan, d) {
				m.problem(c.Name, option, theLANs(d))
				return true
			}
			i := slices.IndexFunc(m.Config.WANs[:len(m.devices)], func(o config.WAN) bool {
				return slices.Contains(m.devices[m.place(o)], d) && !m.mayShare(o, c, d)
			})
			if i >= 0 {
				m.problem(c.Name, option, fmt.Sprintf("its device %s is that of %s", d, m.Config.WANs[i].Name))
			}
			return i >= 0
		})
		if _, there := m.Net.Link(c.Device); c.Device != "" && len(devices) > 0 && !there {
			m.problem(c.Name, "device", "no device "+c.Device)
		}
		m.devices = append(m.devices, devices)
	}
	for i, c := range m.Config.WANs {
		if len(m.devices[i]) > 0 && m.shared(m.devices[i][0]) && (c.Quota > 0 || c.RateDown > 0 || c.RateUp > 0) {
			option := "quota"
			if c.Quota == 0 {
				option = "rate_down"
			}
			m.problem(c.Name, option, fmt.Sprintf("another WAN is on device %s too: what they carry is counted together", m.devices[i][0]))
		}
	}
}

// theLANs is what is wrong with a line on the LAN's device.
func theLANs(device string) string {
	return fmt.Sprintf("its device %s is the LAN's: the line needs one of its own, or a VLAN", device)
}

// place is a WAN's place in the configuration.
func (m *maker) place(c config.WAN) int {
	return slices.IndexFunc(m.Config.WANs, func(o config.WAN) bool { return o.Name == c.Name })
}

// shared says whether a device is that of more than one WAN.
func (m *maker) shared(name string) bool {
	n := 0
	for _, devices := range m.devices {
		if slices.Contains(devices, name) {
			n++
		}
	}
	return n > 1
}

// wanDevice says whether a device is a WAN's.
func (m *maker) wanDevice(name string) bool {
	return slices.ContainsFunc(m.devices, func(devices []string) bool { return slices.Contains(devices, name) })
}

// choose says by what the WAN's traffic is counted, and why it does not work
// if it does not. A leg without an address is as well as the line that it is
// tunnelled through.
func (m *maker) choose(w *WAN, c config.WAN) {
	if len(m.devices[w.Index-1]) > 0 {
		w.Device = m.devices[w.Index-1][0]
	}
	if i := slices.IndexFunc(w.Legs, func(l Leg) bool { return l.Origin == OriginNative }); i >= 0 {
		w.Device = w.Legs[i].Device
	}
	for i := range w.Legs {
		l := &w.Legs[i]
		under := slices.IndexFunc(w.Legs, func(o Leg) bool { return o.Source.IsValid() })
		if !l.Source.IsValid() && under >= 0 {
			l.Verdict, l.Reason = w.Legs[under].Verdict, w.Legs[under].Reason
		}
	}
	for i, l := range w.Legs {
		w.Usable = w.Usable || l.Usable()
		w.Legs[i].MTU = m.mtu(*w, l)
	}
	switch {
	case w.Usable:
		w.Reason = ""
	case len(w.Legs) > 0:
		w.Reason = w.Legs[0].Reason
	case len(m.devices[w.Index-1]) == 0:
		w.Reason = m.undevised(c)
	case w.Reason == "":
		w.Reason = m.unrouted(*w, c)
	}
}

// undevised is why a WAN has no device.
func (m *maker) undevised(c config.WAN) string {
	for i, others := range m.devices {
		if c.Device != "" && slices.Contains(others, c.Device) {
			return fmt.Sprintf("its device %s is that of %s", c.Device, m.Config.WANs[i].Name)
		}
	}
	for _, name := range c.Interfaces {
		if m.netInterface(name) < 0 {
			return "netifd has no interface " + name
		}
	}
	for _, name := range c.Interfaces {
		if in := m.Net.Interfaces[m.netInterface(name)]; !in.Up || in.L3Device == "" {
			return fmt.Sprintf("interface %s is down", name)
		}
		d := m.Net.Interfaces[m.netInterface(name)].L3Device
		if slices.Contains(m.lanDevices(), d) {
			return theLANs(d)
		}
		for i, others := range m.devices {
			if slices.Contains(others, d) {
				return fmt.Sprintf("its device %s is that of %s", d, m.Config.WANs[i].Name)
			}
		}
	}
	return "no device"
}

// unrouted is why a WAN whose device is there has no leg.
func (m *maker) unrouted(w WAN, c config.WAN) string {
	l, _ := m.Net.Link(w.Device)
	usable := slices.ContainsFunc(l.Addrs, func(a netstate.Addr) bool { return a.Usable })
	if !usable {
		return "no address on " + w.Device
	}
	reason := "no gateway on " + w.Device
	m.problem(c.Name, "gateway", reason+", and no option gateway")
	return reason
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

// giveAddresses says which leg has an address from which subflows may start,
// as two modem sticks of a kind have the same: the first one that works and is
// not off, else the first.
func (m *maker) giveAddresses() {
	holders := make(map[netip.Addr]*Leg)
	for _, working := range []bool{true, false} {
		for i := range m.plan.WANs {
			w := &m.plan.WANs[i]
			for j := range w.Legs {
				l := &w.Legs[j]
				works := w.Role != config.RoleOff && l.Usable()
				if l.Source.IsValid() && works == working && holders[l.Source] == nil {
					holders[l.Source], l.Subflows = l, true
				}
			}
		}
	}
	for _, w := range m.plan.WANs {
		for _, l := range w.Legs {
			if !l.Source.IsValid() || l.Subflows || !l.Usable() || w.Role == config.RoleOff {
				continue
			}
			for _, o := range m.plan.WANs {
				if slices.ContainsFunc(o.Legs, func(h Leg) bool { return h.Subflows && h.Source == l.Source }) {
					m.problem(w.Name, "", fmt.Sprintf("has the address %v of %s: no subflows over it", l.Source, o.Name))
				}
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
			w.Reason = "set until the configuration changes"
		}
		if use := m.Load[w.Name]; w.Usable && use.Reason != "" {
			w.Held, w.Reason = use.Held, use.Reason
		}
		m.restrict(w, m.Config.WANs[i])
	}
	m.standIn()
	m.spare()
}

// standIn makes the best WAN primary that is usable, one whose quota is used up
// only where there is no other.
func (m *maker) standIn() {
	for _, spent := range []bool{false, true} {
		for _, stand := range roleOrder {
			for i := range m.plan.WANs {
				w := &m.plan.WANs[i]
				if !w.Usable || w.Role != stand || m.Spent[w.Name] != spent {
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
}
