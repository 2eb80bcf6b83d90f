// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"

	"braid/agent/config"
	"braid/agent/modem"
	"braid/agent/netstate"
)

// restrict has a WAN cost no more than it may: one whose modem is roaming where
// that is not wanted is off, one whose quota is used up is what quota_action
// says. Neither is a role that was set at run time a reason to pay.
func (m *maker) restrict(w *WAN, c config.WAN) {
	switch {
	case w.Role == config.RoleOff:
	case !c.Roaming && m.Modems[w.Name].Roaming:
		w.Role, w.Usable, w.Reason = config.RoleOff, false, "roaming"
		if by := m.Modems[w.Name].Operator; by != "" {
			w.Reason += " with " + by
		}
	case m.Spent[w.Name] && c.QuotaAction == config.QuotaOff:
		w.Role, w.Usable, w.Reason = config.RoleOff, false, spentReason
	case m.Spent[w.Name]:
		w.Role = config.RoleBackup
		if w.Usable {
			w.Reason = spentReason
		}
	}
}

const spentReason = "its quota is used up"

// spare keeps WANs whose quota is used up from carrying anything while another
// one works. One that nothing comes in from may be dead or not: who could tell
// is a line that hears the same peer, so those that are spent are asked then.
func (m *maker) spare() {
	works := slices.ContainsFunc(m.plan.WANs, func(w WAN) bool {
		heard := func(l Leg) bool { return l.Usable() && !l.Unheard }
		return w.Usable && !m.Spent[w.Name] && slices.ContainsFunc(w.Legs, heard)
	})
	if !works {
		return
	}
	for i := range m.plan.WANs {
		w := &m.plan.WANs[i]
		if m.Spent[w.Name] && w.Role == config.RoleBackup {
			w.Usable, w.Idle, w.Reason = false, true, spentReason
		}
	}
}

// findModems lists the WANs whose modems are to be watched.
func (m *maker) findModems() {
	for i, w := range m.plan.WANs {
		if w.Kind != config.KindCellular {
			continue
		}
		c := m.Config.WANs[i]
		m.plan.Modems = append(m.plan.Modems, modem.Target{
			WAN: w.Name, Modem: cmp.Or(c.Modem, "auto"), Device: w.Device,
			QMI: slices.ContainsFunc(m.interfaces(c), func(in netstate.Interface) bool { return in.Proto == "qmi" }),
		})
	}
}

// deviceMTU is what a leg's device takes or, where that is less, the modem's
// bearer: many a network drops what is larger, and says nothing. A tunnel has its
// own.
func (m *maker) deviceMTU(w WAN, leg Leg) int {
	link, _ := m.Net.Link(leg.Device)
	if mtu := m.Modems[w.Name].MTU; mtu > 0 && leg.Device == w.Device && mtu < link.MTU {
		return mtu
	}
	return link.MTU
}

// mtu is the largest packet that a leg takes, as far as is known.
func (m *maker) mtu(w WAN, leg Leg) int {
	mtu := m.deviceMTU(w, leg)
	if found := m.Health[w.Health(leg)].MTU; found > 0 && found < mtu {
		return found
	}
	return mtu
}
