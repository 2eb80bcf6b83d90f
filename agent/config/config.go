// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package config turns the sections of /etc/config/braid into a validated
// Config. Every option, its default and its range is described in
// docs/uci.md; every error names section and option.
package config

import (
	"fmt"
	"net/netip"
	"strconv"

	"braid/transport/journal"
)

// Config is a complete, valid configuration. The zero value intercepts
// nothing.
type Config struct {
	Globals    Globals
	WANs       []WAN       // in file order
	Converters []Converter // by priority, then file order
	Rules      []Rule      // in file order; the first match wins
}

// Globals is the section "globals".
type Globals struct {
	Enabled   bool
	LogLevel  journal.Level
	Firewall  Firewall
	LAN       []string // netifd interfaces, else devices
	LANMPTCP  LANMPTCP
	Fallback  Fallback
	Steer     bool
	BlockQUIC bool
	Accept    Accept
	IPv6      IPv6
}

// Firewall says which packet filter is programmed.
type Firewall string

// The values of globals.firewall.
const (
	FirewallAuto     Firewall = "auto"
	FirewallNFTables Firewall = "nftables"
	FirewallIPTables Firewall = "iptables"
)

// LANMPTCP says what becomes of LAN hosts that speak MPTCP themselves.
type LANMPTCP string

// The values of globals.lan_mptcp.
const (
	LANMPTCPPass    LANMPTCP = "pass"
	LANMPTCPConvert LANMPTCP = "convert"
	LANMPTCPExtend  LANMPTCP = "extend" // pass, and the house's other WANs are added
)

// Fallback says what becomes of a connection when no converter answers.
type Fallback string

// The values of globals.fallback.
const (
	FallbackDirect Fallback = "direct"
	FallbackReject Fallback = "reject"
)

// Accept says when the LAN handshake is completed.
type Accept string

// The values of globals.accept.
const (
	AcceptEarly Accept = "early"
	AcceptLate  Accept = "late"
)

// IPv6 says how steered IPv6 gets a source address that fits its WAN.
type IPv6 string

// The values of globals.ipv6.
const (
	IPv6Masquerade IPv6 = "masquerade"
	IPv6NPT        IPv6 = "npt"
)

// WAN is one access network of the gateway; its section name is its name.
type WAN struct {
	Name        string
	Interfaces  []string     // netifd interfaces of this one line
	Device      string       // instead of Interfaces where there is no netifd
	Gateways    []netip.Addr // at most one per family; empty: learned
	Kind        Kind         // empty: guessed from device or protocol
	Role        Role         // empty: chosen from kind and quota, see docs/uci.md
	Weight      int          // 1..1000, share for per-flow steering
	RateDown    int          // kbit/s, 0 unknown
	RateUp      int          // kbit/s, 0 unknown
	Probes      []netip.Addr // empty: the converters
	Quota       int          // GB (10^9 bytes) a period, 0 none
	QuotaDay    int          // 1..28, day of the month the count starts anew
	QuotaPeriod QuotaPeriod
	QuotaAction QuotaAction
	Modem       string // "auto", an IMEI, or a ModemManager D-Bus path; empty: auto if it is cellular
	Roaming     bool   // use it while roaming
}

// Kind is fixed or cellular.
type Kind string

// The values of wan.kind.
const (
	KindFixed    Kind = "fixed"
	KindCellular Kind = "cellular"
)

// Role says when a WAN is used.
type Role string

// The values of wan.role.
const (
	RolePrimary  Role = "primary"  // first subflow and default route
	RoleBond     Role = "bond"     // always used
	RoleOverflow Role = "overflow" // used while the WANs above it are full
	RoleBackup   Role = "backup"   // used only when nothing above it works
	RoleOff      Role = "off"      // never used
)

// QuotaPeriod is for how long a quota is.
type QuotaPeriod string

// The values of wan.quota_period.
const (
	QuotaMonth QuotaPeriod = "month"
	QuotaOnce  QuotaPeriod = "once" // prepaid
)

// QuotaAction is what a used-up quota makes of a WAN.
type QuotaAction string

// The values of wan.quota_action.
const (
	QuotaBackup QuotaAction = "backup"
	QuotaOff    QuotaAction = "off"
)

// Converter is one RFC 8803 Transport Converter; several addresses are the
// same converter.
type Converter struct {
	Name      string
	Addresses []Host
	Port      uint16
	SRV       string // instead of both: the domain whose _convert._tcp says (RFC 8803 section 10.1)
	Key       []byte // nil: none; proved, never sent
	Cookie    []byte // nil: none; sent in clear
	OnPath    string // instead of all these: the WAN on whose path it stands, addressed by nobody
	Priority  int    // lower first
}

// Mode says how a converter comes to convert.
type Mode string

// The values of converter.mode.
const (
	ModeExplicit Mode = "explicit" // it is asked to, by RFC 8803
	ModeOnPath   Mode = "onpath"   // it stands on a WAN's path
)

// Host is an IP address, or a host name to be resolved; exactly one is set.
type Host struct {
	Addr netip.Addr
	Name string
}

// String returns the address or the name.
func (h Host) String() string {
	if h.Addr.IsValid() {
		return h.Addr.String()
	}
	return h.Name
}

// Rule sets the path of LAN connections that match all of its lists; an
// empty list matches everything. Sources and MACs are one list: a connection
// matches if it is from any of either.
type Rule struct {
	Name      string
	Sources   []netip.Prefix
	MACs      []MAC
	Dests     []netip.Prefix
	Domains   []string // with their subdomains, lower case, no trailing dot
	Proto     Proto
	DestPorts []PortRange
	Path      Path
	WAN       string // pins to a WAN; only with PathPass
}

// MAC is a 48-bit hardware address.
type MAC [6]byte

// String returns the address in lower case, separated by colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Proto is the transport a rule matches.
type Proto string

// The values of rule.proto.
const (
	ProtoAny  Proto = "any"
	ProtoTCP  Proto = "tcp"
	ProtoUDP  Proto = "udp"
	ProtoICMP Proto = "icmp"
)

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Contains says whether a port lies in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String returns N or N-M, as UCI and nftables write it.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Path is the way of a LAN connection.
type Path string

// PathExtend is the one of a connection that is passed, and has WANs added. No
// rule says so.
const PathExtend Path = "extend"

// The values of rule.path.
const (
	PathAuto    Path = "auto"
	PathConvert Path = "convert"
	PathDirect  Path = "direct"
	PathPass    Path = "pass"
	PathReject  Path = "reject"
)
