// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/netstate"
)

// interfaceDevices are the devices of a WAN that is described by netifd
// interfaces: those of the interfaces, and after them those of the tunnels that
// netifd has made for the same line.
func (m *maker) interfaceDevices(c config.WAN) (devices []string) {
	add := func(in netstate.Interface) {
		if in.Up && in.L3Device != "" && !slices.Contains(devices, in.L3Device) {
			devices = append(devices, in.L3Device)
		}
	}
	for _, name := range c.Interfaces {
		i := m.netInterface(name)
		if i < 0 {
			m.problem(c.Name, "interface", "netifd has no interface "+name)
			continue
		}
		add(m.Net.Interfaces[i])
	}
	for _, in := range m.interfaces(c) {
		add(in)
	}
	return devices
}

// interfaces are the netifd interfaces that are a WAN's line.
func (m *maker) interfaces(c config.WAN) (all []netstate.Interface) {
	for _, name := range c.Interfaces {
		if i := m.netInterface(name); i >= 0 {
			for _, in := range m.line(m.Net.Interfaces[i]) {
				if !contains(all, in) && !m.anothers(c, in) {
					all = append(all, in)
				}
			}
		}
	}
	return all
}

// anothers says whether an interface is described to be another WAN's.
func (m *maker) anothers(c config.WAN, in netstate.Interface) bool {
	return !slices.Contains(c.Interfaces, in.Name) && slices.ContainsFunc(m.Config.WANs, func(o config.WAN) bool { return slices.Contains(o.Interfaces, in.Name) })
}

// gateway4 is a WAN's own IPv4 gateway on a device: as configured, or as netifd
// has it for one of its interfaces.
func (m *maker) gateway4(c config.WAN, device string) netip.Addr {
	for _, g := range c.Gateways {
		if g.Is4() {
			return g
		}
	}
	for _, in := range m.interfaces(c) {
		for _, d := range in.Defaults {
			if in.L3Device == device && d.Gateway.Is4() {
				return d.Gateway
			}
		}
	}
	return netip.Addr{}
}

// mayShare says whether two WANs can be told apart on one device: modems behind
// a switch, each with its own network. Two sections for one line cannot.
func (m *maker) mayShare(a, b config.WAN, device string) bool {
	ga, gb := m.gateway4(a, device), m.gateway4(b, device)
	return ga.IsValid() && gb.IsValid() && ga != gb
}

// line is a netifd interface with those that are the same line: its dynamic
// children, and theirs, and the ones on its device.
func (m *maker) line(in netstate.Interface) []netstate.Interface {
	all := []netstate.Interface{in}
	for i := 0; i < len(all); i++ {
		for _, o := range m.Net.Interfaces {
			if o.Parent == all[i].Name && !contains(all, o) {
				all = append(all, o)
			}
		}
	}
	for _, o := range m.Net.Interfaces {
		if in.L3Device != "" && o.L3Device == in.L3Device && !contains(all, o) {
			all = append(all, o)
		}
	}
	return all
}

func contains(all []netstate.Interface, in netstate.Interface) bool {
	return slices.ContainsFunc(all, func(o netstate.Interface) bool { return o.Name == in.Name })
}

func (m *maker) netInterface(name string) int {
	return slices.IndexFunc(m.Net.Interfaces, func(in netstate.Interface) bool { return in.Name == name })
}

// cellularProtocols are those of netifd that run over modems only.
var cellularProtocols = []string{"3g", "directip", "mbim", "modemmanager", "ncm", "qmi", "wwan", "xmm"}

// protocolKind is the kind of WAN that its interfaces' protocols speak of,
// empty if they do not.
func (m *maker) protocolKind(c config.WAN) config.Kind {
	for _, name := range c.Interfaces {
		if i := m.netInterface(name); i >= 0 && slices.Contains(cellularProtocols, m.Net.Interfaces[i].Proto) {
			return config.KindCellular
		}
	}
	return ""
}
