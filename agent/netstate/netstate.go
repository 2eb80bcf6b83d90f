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
	Tables     []Table
}

// Link is a network device with what hangs on it.
type Link struct {
	Index    int
	Name     string
	Up       bool // administratively up, and with carrier where it has one
	Loopback bool
	Type     string // kind of link as the kernel names it: "device", "tun", "wireguard", ...
	Addrs    []Addr
	Defaults []Default // default routes over it
}

// Addr is an address of a link.
type Addr struct {
	Prefix netip.Prefix // address and length, not masked
	// Usable says that new connections may start from it: it is global, not
	// tentative, not deprecated, and not a temporary (RFC 8981) one.
	Usable bool
}

// Default is a default route of the main table.
type Default struct {
	Gateway netip.Addr // invalid on a point-to-point link
	IPv6    bool
	Metric  int
}

// Interface is a netifd interface.
type Interface struct {
	Name     string
	Up       bool
	L3Device string
	Proto    string
	Parent   string // of a dynamic interface, by name
	DNS      []netip.Addr
	Prefixes []netip.Prefix // delegated over it (RFC 8415)
}

// Table is a routing table of somebody else's, as VPNs have, which all packets
// are looked up in.
type Table struct {
	Table int
	IPv6  bool
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
		slices.Equal(s.Tables, o.Tables)
}

// Equal says whether nothing has changed of an interface.
func (in Interface) Equal(o Interface) bool {
	return in.Name == o.Name && in.Up == o.Up && in.L3Device == o.L3Device && in.Proto == o.Proto && in.Parent == o.Parent &&
		slices.Equal(in.DNS, o.DNS) && slices.Equal(in.Prefixes, o.Prefixes)
}

func (l Link) equal(o Link) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Up == o.Up && l.Loopback == o.Loopback && l.Type == o.Type &&
		slices.Equal(l.Addrs, o.Addrs) && slices.Equal(l.Defaults, o.Defaults)
}
