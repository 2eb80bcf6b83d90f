// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"slices"
	"time"

	"braid/test/link"
)

// Addresses that are the same in every World.
var (
	LANPrefix4 = netip.MustParsePrefix("192.168.1.0/24")
	LANPrefix6 = netip.MustParsePrefix("2001:db8:1::/64")

	Gateway4   = netip.MustParseAddr("192.168.1.1")
	Gateway6   = netip.MustParseAddr("2001:db8:1::1")
	Host4      = netip.MustParseAddr("192.168.1.20")
	Host6      = netip.MustParseAddr("2001:db8:1::20")
	Converter4 = netip.MustParseAddr("192.0.2.10")
	Converter6 = netip.MustParseAddr("2001:db8:10::10")
	Server4    = netip.MustParseAddr("192.0.2.80")
	Server6    = netip.MustParseAddr("2001:db8:80::80")
)

// A Kind of access network.
type Kind int

const (
	Fixed Kind = iota
	Cellular
)

// V4 is what an access network has of IPv4.
type V4 int

const (
	Public  V4 = iota
	Private    // RFC 6598, behind the carrier's NAT
	None
)

// An Access is an access network of the gateway.
type Access struct {
	// Name is that of the gateway's device, and of the ISP's or carrier's namespace.
	Name string
	Kind Kind
	V4   V4
	V6   bool
	// NAT64, with V6 and without V4, is the prefix from which the carrier
	// translates to IPv4. It tells of it in router advertisements and by a DNS
	// server at Router6, which knows nothing else. It needs tayga.
	NAT64 netip.Prefix
	// Inside4, with Private, is the gateway's address with its network instead of one of RFC 6598;
	// the router has the network's first address. Several may have the same, as modem sticks do.
	Inside4 netip.Prefix
	// Switch, if any, is the name of an Ethernet switch to which the gateway's device and the router
	// are wired, and those of other Accesses with the same one; such a line is not emulated.
	Switch string
	// Down leads to the gateway, Up away from it.
	Down, Up link.Spec
}

// Fibre is a fixed line with public addresses, named fibre.
func Fibre(down, up link.Spec) Access {
	return Access{Name: "fibre", Kind: Fixed, V4: Public, V6: true, Down: down, Up: up}
}

// LTE is a cellular access network with IPv6 and IPv4 behind a CGNAT, named lte.
func LTE(down, up link.Spec) Access {
	return Access{Name: "lte", Kind: Cellular, V4: Private, V6: true, Down: down, Up: up}
}

// nearest is the delay of a line that names none. No line is without. Where the first data of a
// subflow come within microseconds of its handshake, the receiving kernel (6.18) may take them for
// those that the connection waits for, and hand its reader wrong bytes: a reader that holds the
// socket's lock when the third ACK comes has mptcp_subflow_joined called late, which overwrites
// the data's map_seq. On a line they come a round trip later.
const nearest = time.Millisecond

// Options of a World. The zero Options make the topology of the package's comment, with links
// that do not limit.
type Options struct {
	// Accesses in the order of preference; nil is a Fibre and an LTE. At most 250.
	Accesses []Access
	// Hosts is the number of LAN hosts, .20 and ::20, .21 and ::21, ...; 0 is one. From two on
	// the gateway's lan0 is a bridge. At most 200.
	Hosts int
	// ServerDelay is the one-way delay between core and server.
	ServerDelay time.Duration
	// Veth makes the access links plain veth pairs, for measurements without emulation.
	Veth bool
}

func (o Options) withDefaults() Options {
	if o.Accesses == nil {
		o.Accesses = []Access{Fibre(link.Spec{}, link.Spec{}), LTE(link.Spec{}, link.Spec{})}
	}
	o.Accesses = slices.Clone(o.Accesses)
	for i := range o.Accesses {
		for _, s := range []*link.Spec{&o.Accesses[i].Down, &o.Accesses[i].Up} {
			if s.Delay == 0 {
				s.Delay = nearest
			}
		}
	}
	if o.Hosts == 0 {
		o.Hosts = 1
	}
	return o
}
