// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"braid/agent/config"
)

// Extend is how connections of LAN hosts that speak MPTCP themselves get WANs
// added that they do not know of.
type Extend struct {
	// Addrs are this host's in the LAN, with the networks' lengths: one of them is
	// announced to a host, with a port that stands for a server and a WAN.
	Addrs []netip.Prefix
	// WANs are those that connections are to have now.
	WANs []ExtendWAN
}

// ExtendWAN is a WAN that carries subflows which hosts open.
type ExtendWAN struct {
	Mark       uint32
	IPv4, IPv6 bool
}

// What the packet filter and who extends connections know each other by.
const (
	// ExtendGroup is the group of the filter's log by which it shows what hosts
	// that speak MPTCP say of their connections.
	ExtendGroup = 7000
	// ExtendTable has the rules and maps, ExtendRules is the name of the rules
	// (see package lend).
	ExtendTable = "inet braid"
	ExtendRules = "extend"
	// ExtendTo is the map that leads a port of this host in the LAN to a server,
	// ExtendBy the one that leads it to the mark of the WAN by which that is
	// reached; behind the names stands the family, "ip" or "ip6".
	ExtendTo = "extend_to_"
	ExtendBy = "extend_by_"
)

// extend plans which WANs are added to connections of hosts that speak MPTCP:
// those that ours have subflows on which are no backups.
func (m *maker) extend() *Extend {
	if m.Config.Globals.LANMPTCP != config.LANMPTCPExtend {
		return nil
	}
	e := new(Extend)
	for _, name := range m.lanDevices() {
		link, _ := m.Net.Link(name)
		for _, a := range link.Addrs {
			if a.Usable && !a.Prefix.Addr().IsLinkLocalUnicast() {
				e.Addrs = append(e.Addrs, a.Prefix)
			}
		}
	}
	for _, w := range m.plan.WANs {
		if !w.Usable || w.Held || w.Idle || m.spareable(w) {
			continue
		}
		x := ExtendWAN{Mark: w.Mark(), IPv4: m.forwards(w, false), IPv6: m.forwards(w, true)}
		if x.IPv4 || x.IPv6 {
			e.WANs = append(e.WANs, x)
		}
	}
	return e
}

// spareable says whether a WAN is a backup, and one above it works well.
func (m *maker) spareable(w WAN) bool {
	return w.Role == config.RoleBackup && slices.ContainsFunc(m.plan.WANs, func(o WAN) bool {
		return o.Usable && o.Role != config.RoleBackup && !m.doubted(o)
	})
}
