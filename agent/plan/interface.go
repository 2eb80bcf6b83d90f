// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"

	"braid/agent/config"
	"braid/agent/netstate"
)

// interfaceDevice is the device of a WAN that is described by netifd
// interfaces; when there is none, why says so.
func (m *maker) interfaceDevice(c config.WAN) (device, why string) {
	for _, name := range c.Interfaces {
		i := m.netInterface(name)
		if i < 0 {
			why = cmp.Or(why, fmt.Sprintf("netifd has no interface %s", name))
			m.problem(c.Name, "interface", fmt.Sprintf("netifd has no interface %s", name))
			continue
		}
		in := m.Net.Interfaces[i]
		for _, o := range m.line(in) {
			if device == "" && o.Up {
				device = o.L3Device
			}
		}
		why = cmp.Or(why, fmt.Sprintf("interface %s is down", name))
		if in.Up && in.Parent == "" && in.L3Device != "" && in.L3Device != device {
			m.problem(c.Name, "interface", fmt.Sprintf("%s is on another device, %s: only %s is used", name, in.L3Device, device))
		}
	}
	if device != "" {
		why = ""
	}
	return device, why
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
