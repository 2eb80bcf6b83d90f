// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/mptcp"
)

// shared are the addresses that carriers give to customers behind a NAT
// (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// waits says whether a WAN has no subflows for now: a backup that costs by the
// byte joins connections only when all that is above it is dead or in doubt, or
// one of them carries much: what is queued for a line that dies is bounded only
// where another stands by. A subflow on standby takes 412 bytes of each
// connection, and all of its keepalives.
func (m *maker) waits(w WAN) bool {
	if m.Bulk || w.Role != config.RoleBackup || !m.metered(w) {
		return false
	}
	return slices.ContainsFunc(m.plan.WANs, func(o WAN) bool {
		return o.Usable && o.Role != config.RoleBackup && !m.doubted(o) && !m.mute(o)
	})
}

// wait notes that a WAN does.
func (m *maker) wait(w WAN) {
	for i := range m.plan.Network.Legs {
		l := &m.plan.Network.Legs[i]
		l.Waits = l.Waits || l.WAN == w.Name
	}
}

// mute says whether no converter is reached over a WAN, as over others.
func (m *maker) mute(w WAN) bool {
	return !slices.ContainsFunc(m.plan.Network.Legs, func(l path.Leg) bool { return l.WAN == w.Name && !l.Mute })
}

func (m *maker) metered(w WAN) bool {
	return w.Kind == config.KindCellular || m.Config.WANs[w.Index-1].Quota > 0
}

// doubted says whether a WAN that is usable may be dying.
func (m *maker) doubted(w WAN) bool {
	return slices.ContainsFunc(w.Legs, func(l Leg) bool { return m.Health[w.Health(l)].Doubted })
}

// keepMapped says whether idle connections have to be kept in the memory of
// NATs: not where a line carries them whose own does not forget them soon, and
// another is there to take over. Those of carriers forget, and so do the
// firewalls of cellular networks.
func (m *maker) keepMapped() bool {
	joined, steady := 0, false
	for _, w := range m.plan.WANs {
		i := slices.IndexFunc(m.plan.Endpoints, func(e mptcp.Endpoint) bool { return w.has(e.Addr) })
		if i < 0 {
			continue
		}
		joined++
		e := m.plan.Endpoints[i]
		steady = steady || e.Flags&mptcp.FlagBackup == 0 && w.Kind != config.KindCellular && !shared.Contains(e.Addr)
	}
	return joined < 2 || !steady
}

// has says whether subflows of the WAN start from an address.
func (w WAN) has(a netip.Addr) bool {
	return slices.ContainsFunc(w.Legs, func(l Leg) bool { return l.Subflows && l.Source == a })
}

// Relief are the endpoints of a plan that a line has which has stood by until
// now: all else that its subflows need is in the kernel already.
func (p Plan) Relief(before Plan) (eps []mptcp.Endpoint) {
	for _, e := range p.Endpoints {
		stood := slices.ContainsFunc(before.WANs, func(w WAN) bool { return w.Usable && w.has(e.Addr) })
		had := slices.ContainsFunc(before.Endpoints, func(o mptcp.Endpoint) bool { return o.Addr == e.Addr })
		if stood && !had {
			eps = append(eps, e)
		}
	}
	return eps
}
