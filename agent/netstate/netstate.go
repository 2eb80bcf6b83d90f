// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package netstate tells what network the system has: links, addresses,
// routes and, where there is netifd, its interfaces. A Snapshot is a value;
// Watch says when to take another.
package netstate

import (
	"net/netip"
	"slices"
)

// Snapshot is the network at one moment. Slices are sorted, so that equal
// networks are equal values.
type Snapshot struct {
	Links      []Link
	Interfaces []Interface // netifd's; empty where there is none
	Rules      []Rule      // policy rules, in the order in which they are looked at
	Refused    []Default   // default routes that lead nowhere
	IPsec      bool        // there are policies that have packets transformed (RFC 4301)
}

// Link is a network device with what hangs on it.
type Link struct {
	Index    int
	Name     string
	Up       bool // administratively up, and with carrier where it has one
	Loopback bool
	Type     string // kind of link as the kernel names it: "device", "tun", "wireguard", ...
	MTU      int    // bytes
	Addrs    []Addr
	Defaults []Default  // default routes over it
	Source6  netip.Addr // where the kernel would send IPv6 from over its default routes; may be another link's
}

// Addr is an address of a link.
type Addr struct {
	Prefix netip.Prefix // address and length, not masked
	// Usable says that new connections may start from it: it is global, not
	// tentative and not a temporary (RFC 8981) one.
	Usable     bool
	Deprecated bool // new connections start from another one if there is any
}

// Default is a default route in any table.
type Default struct {
	Gateway netip.Addr // invalid on a point-to-point link
	IPv6    bool
	Table   int
	Metric  int
	Source  netip.Addr // preferred; invalid: the kernel's choice
}

// Rule is a policy rule. Selectors that are zero select all.
type Rule struct {
	Pref       int
	IPv6       bool
	Table      int  // 0: none is looked up
	Goto       int  // the preference to go on at; 0: none
	Refuses    bool // unreachable, prohibit or blackhole
	Source     netip.Prefix
	Dest       netip.Prefix
	In, Out    string
	Mark, Mask uint32
	Invert     bool  // for what the selectors do not select
	NoDefault  bool  // the table's default routes are passed over
	Proto      int   // of the transport; 0: any
	Port       Ports // of the destination
	Narrow     bool  // there are selectors beside these: source ports, users
}

// Ports is a range of ports, both ends included; zero: any.
type Ports struct{ First, Last uint16 }

// Interface is a netifd interface.
type Interface struct {
	Name     string
	Up       bool
	L3Device string
	Proto    string
	Parent   string // of a dynamic interface, by name
	DNS      []netip.Addr
	Prefixes []netip.Prefix // delegated over it (RFC 8415)
	Defaults []Default      // those that netifd has for it, whether the kernel took them or not
}

// Link finds a link by name.
func (s Snapshot) Link(name string) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// Equal says whether two snapshots show the same network.
func (s Snapshot) Equal(o Snapshot) bool {
	return slices.EqualFunc(s.Links, o.Links, Link.equal) && slices.EqualFunc(s.Interfaces, o.Interfaces, Interface.Equal) &&
		slices.Equal(s.Rules, o.Rules) && slices.Equal(s.Refused, o.Refused) && s.IPsec == o.IPsec
}

// Equal says whether nothing has changed of an interface.
func (in Interface) Equal(o Interface) bool {
	return in.Name == o.Name && in.Up == o.Up && in.L3Device == o.L3Device && in.Proto == o.Proto && in.Parent == o.Parent &&
		slices.Equal(in.DNS, o.DNS) && slices.Equal(in.Prefixes, o.Prefixes) && slices.Equal(in.Defaults, o.Defaults)
}

func (l Link) equal(o Link) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Up == o.Up && l.Loopback == o.Loopback && l.Type == o.Type && l.MTU == o.MTU &&
		slices.Equal(l.Addrs, o.Addrs) && slices.Equal(l.Defaults, o.Defaults) && l.Source6 == o.Source6
}

// Plain says whether a rule selects a packet that nothing is special about:
// forwarded, without a mark, of no address or device that a rule names.
func (r Rule) Plain() bool {
	named := r.Source.Bits() > 0 || r.Dest.Bits() > 0 || r.In != "" || r.Out != "" || r.Mark != 0 || r.Narrow ||
		r.Proto != 0 || r.Port != Ports{}
	return named == r.Invert
}
