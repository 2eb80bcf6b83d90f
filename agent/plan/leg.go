// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"
	"strings"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/netstate"
)

// Leg is one family of a WAN over one device: what a line has of IPv4 or IPv6
// by itself, over its session (PPPoE) or through its tunnel (DS-Lite, 6rd, a
// translator).
type Leg struct {
	IPv6    bool
	Device  string
	Link    int // interface index
	Origin  Origin
	Gateway netip.Addr // invalid: the device itself is the way
	Addrs   []netip.Addr
	// Sources are where subflows and probes may start, the best first; Source is
	// the one that is used. It is invalid where there is none: a tunnel without
	// an address carries what is forwarded all the same.
	Sources []netip.Addr
	Source  netip.Addr
	// Borrowed says that Source is an address of another device of this host,
	// out of a prefix which the line delegates.
	Borrowed bool
	Table    int
	MTU      int // the largest packet that it takes, in bytes, as far as is known
	Verdict  health.Verdict
	Reason   string // for the verdict
	Unheard  bool   // nobody can tell whether it is dead
	// Subflows says that subflows may start from Source: MPTCP tells paths apart
	// by address, and of legs with one in common only one can have it.
	Subflows bool
	CLAT     CLAT // with OriginCLAT
}

// Origin is how a leg came to be.
type Origin string

// The origins; those of netifd's interfaces are its names of protocols.
const (
	OriginNative  Origin = "native"
	OriginSession Origin = "pppoe"
	OriginCLAT    Origin = "clat" // a translator of ours
)

// origins are those of netifd's protocols that are not native, by protocol.
var origins = map[string]Origin{
	"pppoe": OriginSession, "pppoa": OriginSession, "pptp": OriginSession, "l2tp": OriginSession,
	"464xlat": "464xlat", "dslite": "ds-lite", "map": "map", "6rd": "6rd", "6in4": "6in4", "6to4": "6to4",
}

// tunnelled says whether what the leg carries passes another leg of the same
// line, in packets of the other family or as a session.
func (o Origin) tunnelled() bool { return o != OriginNative && o != OriginSession }

// translated says whether packets come out of the leg's device anew, in the
// other family, to be forwarded. MAP is either kind.
func (o Origin) translated() bool { return o == OriginCLAT || o == "464xlat" || o == "map" }

// Usable says whether anything may be sent over the leg.
func (l Leg) Usable() bool { return l.Verdict != health.Down }

// Forwards says whether flows of the LAN may take the leg. A translator of ours
// is for our own subflows: its one address is not for others to share.
func (l Leg) Forwards() bool { return l.Origin != OriginCLAT && (l.Source.IsValid() || !l.IPv6) }

// Health is what the health of a leg is known by.
func (w WAN) Health(l Leg) health.Leg {
	return health.Leg{WAN: w.Name, Device: l.Device, IPv6: l.IPv6}
}

// Addrs are all addresses of a WAN.
func (w WAN) Addrs() (addrs []netip.Addr) {
	for _, l := range w.Legs {
		for _, a := range l.Addrs {
			if !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// Forwarding is the leg of a family that carries what is forwarded: the first
// that works, else the first.
func (w WAN) Forwarding(v6 bool) (Leg, bool) {
	return w.first(func(l Leg) bool { return l.IPv6 == v6 && l.Forwards() })
}

// Starting is the leg of a family where subflows start.
func (w WAN) Starting(v6 bool) (Leg, bool) {
	return w.first(func(l Leg) bool { return l.IPv6 == v6 && l.Subflows })
}

func (w WAN) first(of func(Leg) bool) (found Leg, ok bool) {
	for _, l := range w.Legs {
		if of(l) && (!ok || l.Usable() && !found.Usable()) {
			found, ok = l, true
		}
	}
	return found, ok
}

// forwards says whether flows of a family may be sent over the WAN now.
func (w WAN) forwards(v6 bool) bool {
	l, ok := w.Forwarding(v6)
	return ok && l.Usable() && w.Usable
}

// source is where subflows of a family start now; invalid: nowhere.
func (w WAN) source(v6 bool) netip.Addr {
	l, ok := w.Starting(v6)
	if !ok || !l.Usable() || !w.Usable {
		return netip.Addr{}
	}
	return l.Source
}

// legs are those of a WAN over one of its devices.
func (m *maker) legs(w *WAN, c config.WAN, l netstate.Link, ins []netstate.Interface) {
	origin := deviceOrigin(l, ins)
	for _, v6 := range []bool{false, true} {
		route, found := m.wayOut(c, l, ins, v6, origin)
		if !found {
			continue
		}
		leg := Leg{IPv6: v6, Device: l.Name, Link: l.Index, Origin: origin, Gateway: route.Gateway}
		if m.shared(l.Name) {
			l.Addrs = slices.DeleteFunc(slices.Clone(l.Addrs), func(a netstate.Addr) bool { return !a.Prefix.Contains(route.Gateway) })
		}
		for _, a := range l.Addrs {
			if addr := a.Prefix.Addr(); addr.Is6() == v6 {
				leg.Addrs = append(leg.Addrs, addr)
			}
		}
		leg.Sources = m.sources(l, ins, route, v6)
		m.addLeg(w, leg)
	}
}

// addLeg gives a leg its table, and what is known of its health.
func (m *maker) addLeg(w *WAN, leg Leg) {
	second := 0
	for _, o := range w.Legs {
		if o.IPv6 == leg.IPv6 {
			second++
		}
	}
	if second > 1 {
		m.problem(w.Name, "interface", "has more than two ways for "+family(leg.IPv6)+": that over "+leg.Device+" is not used")
		return
	}
	leg.Table = TableLocal + w.Index + second*maxWANs
	h := m.Health[w.Health(leg)]
	leg.Verdict, leg.Reason, leg.Unheard = h.Verdict, h.Reason, h.Unheard
	switch facts := m.Modems[w.Name]; {
	case facts.Down() != "":
		leg.Verdict, leg.Reason = health.Down, facts.Down()
	case leg.Verdict == health.Down && !strings.HasPrefix(leg.Reason, facts.Trouble()):
		leg.Reason = facts.Trouble() + ", " + leg.Reason
	}
	if len(leg.Sources) > 0 {
		leg.Source = leg.Sources[0]
	}
	if slices.Contains(leg.Sources, h.Source) {
		leg.Source = h.Source // from which there were answers
	}
	leg.Borrowed = leg.Source.IsValid() && !slices.Contains(leg.Addrs, leg.Source)
	w.Legs = append(w.Legs, leg)
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// deviceOrigin goes by the protocol of the netifd interface on a device, else
// by the kind of the link.
func deviceOrigin(l netstate.Link, ins []netstate.Interface) Origin {
	for _, in := range ins {
		if o, ok := origins[in.Proto]; ok && in.L3Device == l.Name {
			return o
		}
	}
	switch l.Type {
	case "ppp":
		return OriginSession
	case "sit":
		return "6in4"
	case "ip6tnl":
		return "ds-lite"
	}
	return OriginNative
}

// wayOut is how a family leaves by a device: the configured gateway, a default
// route in any table, one that netifd has and the kernel did not take, or the
// link itself where it has nobody to choose among.
func (m *maker) wayOut(c config.WAN, l netstate.Link, ins []netstate.Interface, v6 bool, o Origin) (d netstate.Default, found bool) {
	defaults := l.Defaults
	if m.shared(l.Name) {
		defaults = nil // whose they are only netifd knows
	}
	for _, in := range ins {
		if in.L3Device == l.Name {
			defaults = append(slices.Clip(defaults), in.Defaults...)
		}
	}
	for _, route := range defaults {
		if route.IPv6 == v6 {
			d, found = route, true
			break
		}
	}
	if !o.tunnelled() {
		for _, g := range c.Gateways {
			if g.Is6() == v6 {
				return netstate.Default{Gateway: g, IPv6: v6}, true
			}
		}
	}
	has := slices.ContainsFunc(l.Addrs, func(a netstate.Addr) bool { return a.Usable && a.Prefix.Addr().Is6() == v6 })
	return d, found || has && pointToPoint(l)
}

// pointToPoint links have no neighbours to choose a gateway among.
func pointToPoint(l netstate.Link) bool {
	return slices.Contains([]string{"tun", "ppp", "wwan", "rawip", "wireguard", "sit", "ip6tnl", "ipip", "gre"}, l.Type)
}

// sources lists where subflows over a device may start, as the kernel would
// choose: the address that the route prefers, the one in the gateway's network,
// any other of the device, those that are deprecated, and this host's address
// in a prefix that the line delegates.
func (m *maker) sources(l netstate.Link, ins []netstate.Interface, route netstate.Default, v6 bool) (all []netip.Addr) {
	var delegated []netip.Prefix
	for _, in := range ins {
		delegated = append(delegated, in.Prefixes...)
	}
	add := func(a netip.Addr) {
		if a.IsValid() && a.Is6() == v6 && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	own := func(which func(netstate.Addr) bool) {
		for _, a := range l.Addrs {
			if a.Usable && which(a) {
				add(a.Prefix.Addr())
			}
		}
	}
	preferred := func(want netip.Addr) {
		if slices.ContainsFunc(l.Addrs, func(a netstate.Addr) bool { return a.Prefix.Addr() == want }) ||
			slices.ContainsFunc(delegated, func(p netip.Prefix) bool { return p.Contains(want) }) {
			add(want)
		}
	}
	preferred(route.Source)
	if v6 {
		preferred(l.Source6)
	}
	own(func(a netstate.Addr) bool { return !a.Deprecated && !v6 && a.Prefix.Contains(route.Gateway) })
	own(func(a netstate.Addr) bool { return !a.Deprecated && !a.Prefix.Addr().IsPrivate() })
	own(func(a netstate.Addr) bool { return !a.Deprecated })
	own(func(a netstate.Addr) bool { return true })
	if !v6 {
		return all
	}
	for _, inside := range m.Net.Links {
		for _, a := range inside.Addrs {
			if a.Usable && !m.wanDevice(inside.Name) && slices.ContainsFunc(delegated, func(p netip.Prefix) bool { return p.Contains(a.Prefix.Addr()) }) {
				add(a.Prefix.Addr())
			}
		}
	}
	return all
}
