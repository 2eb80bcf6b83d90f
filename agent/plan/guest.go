// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"braid/agent/netstate"
)

// findGuests finds out what others have decided about the LAN's packets, which
// is left as it is: a family whose default route is not over a WAN, and what
// their rules select by source, destination or device.
func (m *maker) findGuests() {
	for _, v6 := range []bool{false, true} {
		f := m.family(v6)
		if where := m.defaultElsewhere(v6); where != "" {
			f.Left = true
			m.problem("globals", "", fmt.Sprintf("%s is left alone: its default route %s", family(v6), where))
		}
		f.Guests = m.guests(v6)
		for _, s := range f.Guests {
			if all := m.whole(s, v6); all != "" {
				m.problem("globals", "", fmt.Sprintf("%s from %s is left alone: a rule of others takes all of it", family(v6), all))
			}
		}
	}
}

// whole says which of the LAN's devices or prefixes a selector takes all
// packets of; nothing for one that takes some.
func (m *maker) whole(s Selector, v6 bool) string {
	if some := (Selector{Source: s.Source, In: s.In}); s != some {
		return ""
	}
	prefixes := m.lanPrefixes()
	i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool {
		return p.Addr().Is6() == v6 && s.Source.IsValid() && s.Source.Bits() <= p.Bits() && s.Source.Contains(p.Addr())
	})
	switch lan := slices.Contains(m.lanDevices(), s.In); {
	case i >= 0 && (s.In == "" || lan):
		return prefixes[i].String()
	case lan && !s.Source.IsValid():
		return s.In
	}
	return ""
}

// family is what is planned for a family.
func (m *maker) family(v6 bool) *FirewallFamily {
	if v6 {
		return &m.families[1]
	}
	return &m.families[0]
}

// defaultElsewhere says where a packet of a family that nobody has marked
// would leave if braid were not there, in words; nothing if that is by a WAN, or
// nowhere because no table has a default route.
func (m *maker) defaultElsewhere(v6 bool) string {
	next := 0
	for _, r := range m.Net.Rules {
		if r.IPv6 != v6 || r.Pref < next || !r.Plain() {
			continue
		}
		switch {
		case r.Refuses:
			return fmt.Sprintf("is refused by rule %d", r.Pref)
		case r.Goto > 0:
			next = r.Goto
		case r.Table > 0 && !r.NoDefault:
			if device, found := m.defaultOf(r.Table, v6); found {
				switch {
				case device == "":
					return fmt.Sprintf("in table %d refuses", r.Table)
				case m.wanDevice(device):
					return ""
				}
				return fmt.Sprintf("leads to %s, which is no WAN", device)
			}
		}
	}
	return ""
}

// defaultOf is the device of a table's best default route; none if that leads
// nowhere. A WAN is preferred among those that are as good as each other.
func (m *maker) defaultOf(table int, v6 bool) (device string, found bool) {
	best := 0
	consider := func(name string, d netstate.Default) {
		if d.Table != table || d.IPv6 != v6 || found && d.Metric > best || found && d.Metric == best && !m.wanDevice(name) {
			return
		}
		device, found, best = name, true, d.Metric
	}
	for _, d := range m.Net.Refused {
		consider("", d)
	}
	for _, l := range m.Net.Links {
		for _, d := range l.Defaults {
			consider(l.Name, d)
		}
	}
	return device, found
}

// guests are the selectors of other people's rules that decide which way
// packets of the LAN leave. Marks need none: a packet that is marked is theirs.
func (m *maker) guests(v6 bool) (all []Selector) {
	for _, r := range m.Net.Rules {
		s := Selector{Source: r.Source, Dest: r.Dest, In: r.In, Proto: r.Proto, Port: r.Port}
		decides := r.Refuses || r.Table > 0 && !r.NoDefault
		// What this host sends itself, or from its own address, is not the LAN's,
		// nor what comes in by a WAN.
		own := r.In == "lo" || m.wanDevice(r.In) || r.Source.IsSingleIP() && m.has(r.Source.Addr())
		if r.IPv6 != v6 || !decides || own || r.Invert || r.Narrow || r.Out != "" || r.Mark != 0 || s == (Selector{}) || slices.Contains(all, s) {
			continue
		}
		if r.Table > 0 && r.Table != TableMain {
			if _, found := m.defaultOf(r.Table, v6); !found && !s.Dest.IsValid() {
				continue // it leads to some networks, and the rules after it decide the rest
			}
		}
		all = append(all, s)
	}
	return all
}

// has says whether this host has an address.
func (m *maker) has(a netip.Addr) bool {
	return slices.ContainsFunc(m.Net.Links, func(l netstate.Link) bool {
		return slices.ContainsFunc(l.Addrs, func(o netstate.Addr) bool { return o.Prefix.Addr() == a })
	})
}

// barred says whether the firewall lets nothing new of a family pass from the
// LAN to a WAN.
func (m *maker) barred(w WAN, v6 bool) bool {
	l, ok := w.Forwarding(v6)
	return ok && m.Barred[Barrier{l.Device, v6}]
}

// reportBarriers names the WANs that the firewall keeps from the LAN.
func (m *maker) reportBarriers() {
	for _, w := range m.plan.WANs {
		var kept []string
		for _, v6 := range []bool{false, true} {
			if m.barred(w, v6) {
				kept = append(kept, family(v6))
			}
		}
		if len(kept) > 0 {
			m.problem(w.Name, "", fmt.Sprintf("the firewall forwards no %s from the LAN to it: no flow goes there; is it in a zone that the LAN may use?",
				strings.Join(kept, " and no ")))
		}
	}
}
