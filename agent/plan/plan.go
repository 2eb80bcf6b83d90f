// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package plan derives what the kernel is to look like from configuration,
// network and health. It does no I/O, reads no clock and logs nothing: what
// is wrong comes back as problems beside the plan.
package plan

import (
	"net/netip"

	"braid/agent/config"
	"braid/agent/health"
	"braid/transport/mptcp"
)

// What braid owns in the kernel; everything else is left alone.
const (
	// MarkWAN are the fwmark bits that hold a WAN's index, 1 to 30.
	MarkWAN = 0x1f000000
	// MarkIntercept is set on the LAN's packets that braid itself receives.
	MarkIntercept = 0x20000000
	// MarkLAN is the mark of braid's sockets towards the LAN.
	MarkLAN = 31 << markShift
	// MarkAgent is the mark of the packets that the agent sends to itself over
	// the loopback to say that it lives.
	MarkAgent = MarkIntercept | MarkLAN
	// In the mark of a SYN that has been taken, the place of the WAN holds the
	// path that a rule has chosen, and whether the agent, which held it, has let
	// it go on.
	MarkConvert  = 1 << markShift
	MarkDirect   = 2 << markShift
	MarkAccepted = 16 << markShift

	markShift = 24
	maxWANs   = 30

	// TableLocal delivers intercepted packets to this host; a WAN's table is
	// TableLocal plus its index.
	TableLocal = 7000
	// TableNowhere says that there is no way.
	TableNowhere = 7062
	TableLast    = 7063

	PrefFirst     = 700
	PrefIntercept = 700 // intercepted packets to this host
	PrefLAN       = 701 // the LAN is reached as the main table says
	PrefSource    = 710 // by source address: subflows
	PrefDevice    = 711 // by device: sockets bound to one
	PrefDNS       = 712 // the WANs' DNS servers
	PrefMain      = 715 // what the system has a route for that is no default
	PrefLost      = 716 // by source address: a WAN without a way out
	PrefMark      = 720 // by mark: flows that are steered
	PrefDefault   = 730 // all else: the best WAN
	PrefLast      = 799

	// EndpointFirst is the first of the ids of our MPTCP endpoints, EndpointLast
	// the last.
	EndpointFirst = 224
	EndpointLast  = 255
)

// Verdict is what the packet filter's rules say of a connection that is taken,
// and the mark of its SYN.
type Verdict struct {
	Path config.Path
	Mark uint32
}

// Verdicts are all there are.
var Verdicts = [...]Verdict{
	{config.PathAuto, MarkIntercept},
	{config.PathConvert, MarkIntercept | MarkConvert},
	{config.PathDirect, MarkIntercept | MarkDirect},
}

// Ports are where the proxy listens on 127.0.0.1 and ::1 for the connections of
// each of Verdicts.
type Ports [len(Verdicts)]uint16

// Plan is what the kernel is to look like. The zero Plan is the kernel
// without braid.
type Plan struct {
	WANs      []WAN // that exist now, in the order of configuration
	Routes    []Route
	Rules     []Rule
	Endpoints []mptcp.Endpoint
	Limits    *mptcp.Limits // nil: as it was
	Sysctls   []Sysctl
	Filter    config.Firewall // which packet filter; empty: whichever is in use
	Firewall  *Firewall       // nil: none
	Flows     []FlowWAN
	Probes    []health.Target
	IPv6Only  []IPv6Only
}

// WAN is a configured WAN as it stands.
type WAN struct {
	Name     string
	Index    int // 1..30, its fwmark and table
	Device   string
	Link     int // interface index
	Kind     config.Kind
	Role     config.Role // effective
	Reason   string      // why Role is not the configured one, or the WAN unusable
	Usable   bool        // new connections may start on it
	Held     bool        // its subflows are backups for now
	Addrs    []netip.Addr
	Gateways []netip.Addr // one a family at most; none on point-to-point links
	IPv4     Family
	IPv6     Family

	// The device of IPv4 where it is another one, a translator's.
	Device4 string
	Link4   int
	CLAT    CLAT // zero: that is none of ours
}

// Family is what a WAN has of one address family. The zero value is nothing.
type Family struct {
	Source netip.Addr // valid: there is an address and a way out
	Usable bool       // and it works: subflows may start from Source
}

// Mark is the WAN's fwmark.
func (w WAN) Mark() uint32 { return uint32(w.Index) << markShift }

// Table is the WAN's routing table.
func (w WAN) Table() int { return TableLocal + w.Index }

// Route is a route in one of our tables.
type Route struct {
	Table   int
	Dest    netip.Prefix // 0.0.0.0/0 and ::/0 for the default
	Gateway netip.Addr   // invalid: on the link
	Link    int          // interface index
	Local   bool         // type local: deliver here

	// Unreachable refuses; such a route has no link.
	Unreachable bool
}

// Rule is a policy routing rule; the zero value of a selector matches all.
type Rule struct {
	Pref   int
	IPv6   bool
	Source netip.Prefix
	Dest   netip.Prefix
	Device string // outgoing, of a bound socket
	Mark   uint32
	Mask   uint32
	Table  int
	// In is the device that packets have come in by.
	In string
	// Own selects what this host sends itself.
	Own bool
	// Specific passes over the table's default routes.
	Specific bool
}

// TableMain is the system's own routing table.
const TableMain = 254

// Sysctl is a kernel setting, as a path below /proc/sys.
type Sysctl struct {
	Path  string
	Value string
}

// Firewall is what the packet filter is to do.
type Firewall struct {
	LANDevices []string
	WANs       []FirewallWAN
	LAN        []netip.Prefix // never intercepted: the LAN itself
	Access     []netip.Prefix // never intercepted: private networks of the WANs
	Converters []netip.Addr   // never intercepted
	PassMPTCP  bool           // nor is who speaks MPTCP
	Late       bool           // SYNs are held until the agent says what becomes of them
	Drain      bool           // nothing more is intercepted; what is open stays with the proxy
	Ports      Ports
	Rules      []FirewallRule // the first that matches holds
	BlockQUIC  bool
	Shares4    []Share // of what is steered; none: the routing tables decide
	Shares6    []Share
	CLATs      []CLAT
}

// FirewallWAN is a WAN as the packet filter knows it.
type FirewallWAN struct {
	Device    string
	Mark      uint32
	Addrs     []netip.Addr  // IPv4: flows that use one are this WAN's
	Translate []Translation // IPv6 sources
}
