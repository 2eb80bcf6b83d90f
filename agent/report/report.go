// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package report is what braid tells the world: one model, whose JSON is the
// answer of ubus and of the command line alike. docs/ubus.md describes it.
package report

import (
	"net/netip"
	"time"

	"braid/agent/config"
)

// Status is the answer of the method "status". Times are seconds elapsed,
// because routers have no clock at boot.
type Status struct {
	Version     string      `json:"version"`
	Uptime      int         `json:"uptime"`
	State       State       `json:"state"`
	Problems    []Problem   `json:"problems"`
	Kernel      Kernel      `json:"kernel"`
	Firewall    string      `json:"firewall"` // nftables, iptables or ""
	Converters  []Converter `json:"converters"`
	WANs        []WAN       `json:"wans"`
	Connections Totals      `json:"connections"`
	Bytes       Bytes       `json:"bytes"`
	LastEvent   int         `json:"last_event"` // its number, see Event
}

// State is how braid as a whole fares.
type State string

// The states.
const (
	StateOK       State = "ok"
	StateDegraded State = "degraded" // a WAN in use, or every converter, is missing
	StateDown     State = "down"     // no WAN works
	StateDisabled State = "disabled" // switched off, or nothing configured
)

// Problem is something a user should know of.
type Problem struct {
	Section string `json:"section"`
	Option  string `json:"option"`
	Message string `json:"message"`
	Warning bool   `json:"warning"` // the configuration is valid all the same
}

// Problems takes over what configuration and planning found.
func Problems(ps config.Problems) []Problem {
	out := make([]Problem, 0, len(ps))
	for _, p := range ps {
		out = append(out, Problem{p.Section, p.Option, p.Message, p.Warning})
	}
	return out
}

// Kernel is what the kernel can do.
type Kernel struct {
	Release string `json:"release"`
	MPTCP   bool   `json:"mptcp"`
	TFO     bool   `json:"tfo"`
	TProxy  bool   `json:"tproxy"`
	// Congestion is the congestion control of what is sent over the WANs.
	Congestion string `json:"congestion"`
}

// Converter is one converter.
type Converter struct {
	Name    string `json:"name"`
	Address string `json:"address"`       // empty: it is addressed by nobody
	WAN     string `json:"wan,omitempty"` // on whose path it stands then
	Port    uint16 `json:"port"`
	State   string `json:"state"` // unknown, up, full, down, refused
	// IPv4 and IPv6 tell whether it reaches servers there; absent: not known.
	IPv4  *bool   `json:"ipv4,omitempty"`
	IPv6  *bool   `json:"ipv6,omitempty"`
	RTT   float64 `json:"rtt_ms"`
	Since int     `json:"since"`
}

// Totals counts connections.
type Totals struct {
	Open        int    `json:"open"`
	Total       uint64 `json:"total"`
	Convert     uint64 `json:"convert"`
	Direct      uint64 `json:"direct"`
	Extended    uint64 `json:"extended"` // of LAN hosts that speak MPTCP; none of the others
	TCPFallback uint64 `json:"tcp_fallback"`
	Failed      uint64 `json:"failed"`
}

// Bytes counts what connections carried: from the servers, to them, and how
// much of both past every converter.
type Bytes struct {
	RX     uint64 `json:"rx"`
	TX     uint64 `json:"tx"`
	Direct uint64 `json:"direct"`
}

// WANs is the answer of the method "wans".
type WANs struct {
	WANs []WAN `json:"wans"`
}

// WAN is one access network.
type WAN struct {
	Name          string       `json:"name"`
	Interface     string       `json:"interface"`
	Device        string       `json:"device"`
	Kind          config.Kind  `json:"kind"`
	Role          config.Role  `json:"role"`
	EffectiveRole config.Role  `json:"effective_role"`
	State         string       `json:"state"` // up, degraded, down, off
	Reason        string       `json:"reason"`
	Since         int          `json:"since"`
	Addresses     []netip.Addr `json:"addresses"`
	IPv4          string       `json:"ipv4"` // public, private, shared, none
	IPv6          bool         `json:"ipv6"`
	NAT64         string       `json:"nat64"`
	RTT           float64      `json:"rtt_ms"`
	Jitter        float64      `json:"jitter_ms"`
	Loss          float64      `json:"loss"` // 0 to 1
	RXRate        int64        `json:"rx_rate"`
	TXRate        int64        `json:"tx_rate"`
	RXBytes       uint64       `json:"rx_bytes"`
	TXBytes       uint64       `json:"tx_bytes"`
	Subflows      int          `json:"subflows"`
	Legs          []Leg        `json:"legs"`
	Quota         Quota        `json:"quota"`
	Cellular      Cellular     `json:"cellular"`
}

// Leg is one family of a WAN over one device.
type Leg struct {
	Family     string         `json:"family"` // ipv4, ipv6
	Device     string         `json:"device"`
	Source     string         `json:"source"`  // where subflows start; empty: nowhere
	Gateway    string         `json:"gateway"` // empty: the device is the way
	Origin     string         `json:"origin"`  // native, pppoe, ds-lite, map, 464xlat, 6rd, 6in4, 6to4, clat
	MTU        int            `json:"mtu"`     // the largest packet that it takes, in bytes
	State      string         `json:"state"`   // up, degraded, down, off
	Reason     string         `json:"reason"`
	Converters []LegConverter `json:"converters"`
}

// LegConverter is what a leg's converter is like over it.
type LegConverter struct {
	Name  string  `json:"name"`
	State string  `json:"state"`
	RTT   float64 `json:"rtt_ms"`
}

// Quota is in bytes; a limit of 0 is none. Resets is in how many seconds the
// next period begins, 0 if none will, or the clock does not tell.
type Quota struct {
	Used   uint64 `json:"used"`
	Limit  uint64 `json:"limit"`
	Resets int    `json:"resets"`
}

// Cellular is what a modem tells: signal in percent, rsrp in dBm, rsrq and
// sinr in dB.
type Cellular struct {
	Source       string  `json:"source"` // modemmanager, uqmi, none
	Model        string  `json:"model"`
	Operator     string  `json:"operator"`
	Technology   string  `json:"technology"`
	Signal       int     `json:"signal"`
	RSRP         float64 `json:"rsrp"`
	RSRQ         float64 `json:"rsrq"`
	SINR         float64 `json:"sinr"`
	Registration string  `json:"registration"` // home, roaming, searching, denied, idle, emergency, restricted or ""
	Roaming      bool    `json:"roaming"`
	Lock         string  `json:"lock"`
	Failure      string  `json:"failure"`
	IPType       string  `json:"ip_type"` // ipv4, ipv6, ipv4v6 or ""
}

// Connections is the answer of the method "connections".
type Connections struct {
	Connections []Connection `json:"connections"`
	Total       int          `json:"total"` // that match, shown or not
}

// Connection is a LAN connection.
type Connection struct {
	ID        uint64      `json:"id"`
	Src       string      `json:"src"`
	Dst       string      `json:"dst"`
	Path      config.Path `json:"path"`
	Converter string      `json:"converter"`
	Age       int         `json:"age"`
	RX        uint64      `json:"rx"`
	TX        uint64      `json:"tx"`
	MPTCP     bool        `json:"mptcp"`
	Subflows  []Subflow   `json:"subflows"`
}

// Subflow is one path of a connection.
type Subflow struct {
	WAN    string  `json:"wan"`
	Local  string  `json:"local"`
	Remote string  `json:"remote"`
	RTT    float64 `json:"rtt_ms"`
	Backup bool    `json:"backup"`
	RX     uint64  `json:"rx"`
	TX     uint64  `json:"tx"`
}

// Explanation is the answer of the method "explain".
type Explanation struct {
	Address  netip.Addr        `json:"address"` // that of the destination's name
	Path     config.Path       `json:"path"`
	Reason   string            `json:"reason"`
	Rule     string            `json:"rule"`
	Subflows []ExpectedSubflow `json:"subflows"`
	Seen     Seen              `json:"seen"`
}

// Seen is what has been seen of a server; absent is what is not known.
type Seen struct {
	MPTCP  *bool  `json:"mptcp,omitempty"`   // the server speaks it itself
	Joins  *bool  `json:"joins,omitempty"`   // second subflows to it come up
	OnPath *bool  `json:"on_path,omitempty"` // MPTCP was answered where a converter stands on the path
	Lends  *bool  `json:"lends,omitempty"`   // an address was announced for WANs that do not reach it
	Lent   string `json:"lent,omitempty"`    // the last that was
}

// ExpectedSubflow is a subflow that a connection would have.
type ExpectedSubflow struct {
	WAN    string `json:"wan"`
	Family string `json:"family"` // ipv4, ipv6
	Remote string `json:"remote"`
	Peer   string `json:"peer"` // converter, server, mcp, server or mcp, lent
}

// Try is the answer of the method "try": what a converter says, and how long
// its handshake took.
type Try struct {
	State  string  `json:"state"` // up, down, refused
	Reason string  `json:"reason"`
	RTT    float64 `json:"rtt_ms"`
}

// Reload is the answer of the methods "reload" and "check".
type Reload struct {
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
}

// IPv4Kind says how the world reaches a WAN's IPv4 address.
func IPv4Kind(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "none"
	case carrierNAT.Contains(a), translated.Contains(a):
		return "shared"
	case a.IsPrivate():
		return "private"
	}
	return "public"
}

var (
	carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	translated = netip.MustParsePrefix("192.0.0.0/29")  // RFC 7335
)

// Milliseconds is how times are reported.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
