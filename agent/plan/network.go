// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"sort"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/path"
)

// roleOrder is in which order WANs are tried.
var roleOrder = []config.Role{config.RolePrimary, config.RoleBond, config.RoleOverflow, config.RoleBackup}

// findNetwork lists where connections start, the best first, and by which
// address of each converter. All else follows from that order: what path
// decides, which family endpoints join in, what explain tells.
func (m *maker) findNetwork() {
	v6 := m.prefersIPv6()
	var legs []path.Leg
	for _, role := range roleOrder {
		for _, held := range []bool{false, true} {
			for _, w := range m.plan.WANs {
				if w.Role != role || w.Held != held {
					continue
				}
				for _, family := range []bool{v6, !v6} {
					if source := w.source(family); source.IsValid() {
						legs = append(legs, path.Leg{WAN: w.Name, Source: source, Metered: m.metered(w)})
					}
				}
			}
		}
	}
	var converters []path.Converter
	for _, c := range m.Config.Converters {
		pc := m.Converters[c.Name]
		pc.Name, pc.Key, pc.Cookie, pc.OnPath = c.Name, c.Key, c.Cookie, c.OnPath
		for _, a := range m.ConverterAddrs(c) {
			pc.Addrs = append(pc.Addrs, netip.AddrPortFrom(a, c.Port))
		}
		sort.SliceStable(pc.Addrs, func(i, j int) bool { return rank(pc.Addrs[i], v6) < rank(pc.Addrs[j], v6) })
		converters = append(converters, pc)
	}
	m.plan.Network = path.New(legs, converters, m.Config.Globals.Fallback)
	m.degradeMute()
}

// degradeMute notes legs over which no converter is reached, though others
// reach it.
func (m *maker) degradeMute() {
	for _, mute := range m.plan.Network.Legs {
		for i := range m.plan.WANs {
			w := &m.plan.WANs[i]
			for j := range w.Legs {
				l := &w.Legs[j]
				if mute.Mute && w.Name == mute.WAN && l.Subflows && l.Source == mute.Source {
					l.Verdict, l.Reason = health.Degraded, "no converter is reached over it, as over others"
				}
			}
		}
	}
}

func rank(a netip.AddrPort, v6 bool) int {
	if a.Addr().Is6() == v6 {
		return 0
	}
	return 1
}

// prefersIPv6 says in which family converters are dialled that have both: the
// one that the first WAN has natively, where the other is tunnelled; the one
// that more WANs have, for the others have to wait for an address that the
// converter announces; the one that the configuration names first.
func (m *maker) prefersIPv6() bool {
	count := [2]int{}
	for i, w := range m.firstFirst() {
		l4, _ := w.Starting(false)
		l6, _ := w.Starting(true)
		has4, has6 := w.source(false).IsValid(), w.source(true).IsValid()
		if i == 0 && has4 && has6 && l4.Origin.tunnelled() != l6.Origin.tunnelled() {
			return l4.Origin.tunnelled()
		}
		if has4 {
			count[0]++
		}
		if has6 {
			count[1]++
		}
	}
	if count[0] != count[1] {
		return count[1] > count[0]
	}
	for _, c := range m.Config.Converters {
		for _, a := range m.ConverterAddrs(c) {
			return a.Is6()
		}
	}
	return false
}

// firstFirst are the WANs on which connections may start, the first one first.
func (m *maker) firstFirst() (wans []WAN) {
	for _, role := range roleOrder {
		for _, w := range m.plan.WANs {
			if w.Usable && w.Role == role {
				wans = append(wans, w)
			}
		}
	}
	return wans
}
