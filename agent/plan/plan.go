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
	"braid/agent/modem"
	"braid/agent/nameserver"
	"braid/agent/netstate"
	"braid/agent/path"
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
	// MarkForeign are the bits that are everybody else's: who has marked a packet
	// has decided about it.
	MarkForeign = ^uint32(MarkWAN | MarkIntercept)

	markShift = 24
	maxWANs   = 30

	// TableLocal delivers intercepted packets to this host. A leg's table is
	// TableLocal plus the WAN's index, that of a WAN's second leg of a family
	// maxWANs more.
	TableLocal = 7000
	// TableNowhere says that there is no way.
	TableNowhere = 7062
	TableLast    = 7063

	// Our own sockets, and packets that are intercepted.
	PrefFirst     = 700
	PrefIntercept = 700 // intercepted packets to this host
	PrefInner     = 701 // what is to be translated back
	PrefSource    = 710 // by source address: subflows
	PrefDevice    = 711 // by device: sockets bound to one
	PrefLost      = 716 // by source address: a WAN without a way out
	PrefLast      = 799

	// Everything else is decided behind everybody else's rules, the last of
	// which the kernel puts right before main's, and in the order of the plan:
	// rules of one preference are looked at in the order in which they came.
	PrefTailFirst = 32700
	PrefTail      = 32765
	PrefMain      = 32766 // the system's own (fib_default_rules_init)

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

// Own is what braid's routing is known by.
var Own = netstate.Own{
	FirstTable: TableLocal, LastTable: TableLast,
	Rule: netstate.Rule{Pref: PrefTail, Table: TableMain, NoDefault: true, Mask: MarkForeign},
}

// Plan is what the kernel is to look like. The zero Plan is the kernel
// without braid.
type Plan struct {
	WANs      []WAN         // that exist now, in the order of configuration
	Network   *path.Network // where connections start, and by which converters; nil: there are none
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
	// Nameservers are to be asked whether they answer over another WAN.
	Nameservers []nameserver.Target
	Modems      []modem.Target
	Lost        []netip.Addr // what the host has open from these is given up
}

// WAN is a configured WAN as it stands.
type WAN struct {
	Name   string
	Index  int    // 1..30, its fwmark and table
	Device string // that all it carries passes, under its tunnels
	Kind   config.Kind
	Role   config.Role // effective
	Reason string      // why Role is not the configured one, or the WAN unusable
	Usable bool        // new connections may start on it
	Held   bool        // its subflows are backups for now
	Idle   bool        // it carries nothing, not even probes, until nothing else works
	Legs   []Leg       // of a family the better ones first
}

// Mark is the WAN's fwmark.
func (w WAN) Mark() uint32 { return uint32(w.Index) << markShift }

// Route is a route in one of our tables.
type Route struct {
	Table   int
	Dest    netip.Prefix // 0.0.0.0/0 and ::/0 for the default
	Gateway netip.Addr   // invalid: on the link
	Link    int          // interface index
	Local   bool         // type local: deliver here

	// Such routes have no link. Unreachable refuses, Elsewhere has the rules go
	// on as if the table had no route (type throw).
	Unreachable, Elsewhere bool
	MTU                    int // 0: the device's
}

// Rule is a policy routing rule; the zero value of a selector matches all.
// Those of PrefTail are looked at in the order of the plan.
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
	// Port is the destination's, of TCP and UDP (kernel 4.17).
	Port uint16
	// Specific passes over the table's default routes.
	Specific bool
}

// TableMain is the system's own routing table.
const TableMain = 254

// portDNS is that of DNS (RFC 1035).
const portDNS = 53

// Sysctl is a kernel setting, as a path below /proc/sys.
type Sysctl struct {
	Path  string
	Value string
}

// Firewall is what the packet filter is to do.
type Firewall struct {
	LANDevices []string
	WANs       []FirewallWAN
	LAN        []netip.Prefix     // never intercepted: the LAN itself
	Public     []netip.Prefix     // IPv4 networks of the LAN that need no NAT: only the best WAN is sure to take them
	Access     []netip.Prefix     // never intercepted: private networks of the WANs
	Converters []netip.Addr       // never intercepted
	Helped     []config.PortRange // never intercepted: TCP ports to whose connections others belong
	Crowd      []netip.Addr       // whose connections are not intercepted, for now
	Dead       []DeadLeg          // where the host's own TCP waits in vain
	PassMPTCP  bool               // nor is who speaks MPTCP
	Extend     *Extend            // but extended; nil: not so
	Late       bool               // SYNs are held until the agent says what becomes of them
	Drain      bool               // nothing more is intercepted; what is open stays with the proxy
	Ports      Ports
	Rules      []FirewallRule // the first that matches holds
	BlockQUIC  bool
	IPsec      bool // what it transforms is neither refused nor taken
	IPv4, IPv6 FirewallFamily
	CLATs      []CLAT
}

// DeadLeg is a leg that is down while another one could carry what the host
// itself has open there.
type DeadLeg struct {
	Device string
	IPv6   bool
	Addrs  []netip.Addr // of a device that others share; none: all
}

// FirewallFamily is what the packet filter does with one family.
type FirewallFamily struct {
	Left   bool       // it is somebody else's: nothing is marked or taken
	Take   bool       // TCP is intercepted: there is a way to carry it
	Shares []Share    // of what is steered; none: the routing tables decide
	Kept   []Kept     // before that
	Guests []Selector // what somebody else's rules decide about, alike
	// Spared are devices of WANs with a lower role, which do not carry a family
	// only because the WANs above them lack it: new flows are refused, so that
	// hosts take their other family.
	Spared []string
}

// Selector selects packets; what is zero selects all.
type Selector struct {
	Source, Dest netip.Prefix
	In           string
	Proto        int            // of the transport
	Port         netstate.Ports // of the destination
}

// FirewallWAN is a WAN as the packet filter knows it.
type FirewallWAN struct {
	Devices   []string
	Mark      uint32
	Addrs     []netip.Addr  // IPv4: flows that use one are this WAN's
	Translate []Translation // IPv6 sources
}

// Translation gives steered IPv6 a source that its WAN takes.
type Translation struct {
	Device string // over which it leaves
	From   netip.Prefix
	To     netip.Prefix // invalid: the device's address
}

// Family is the firewall's part for a family.
func (f *Firewall) Family(v6 bool) *FirewallFamily {
	if v6 {
		return &f.IPv6
	}
	return &f.IPv4
}
