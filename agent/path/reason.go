// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"fmt"
	"net/netip"
	"slices"

	"braid/agent/config"
)

// Subflow is a subflow that a decision leads one to expect.
type Subflow struct {
	WAN    string
	Source netip.Addr
	Remote netip.AddrPort // invalid: an address that the converter announces
}

// Expected lists the subflows of a connection made by an attempt: one from
// every WAN, but for those that wait, that has the family of the peer or, where the peer is a converter,
// that of another address of it.
func (n *Network) Expected(a Attempt) (flows []Subflow) {
	peers := []netip.AddrPort{a.Peer}
	if a.Converter != nil {
		peers = append(peers, a.Converter.Addrs...)
	}
	for _, w := range n.WANs {
		if w.Waits && w.Name != a.WAN {
			continue
		}
		i := slices.IndexFunc(peers, func(p netip.AddrPort) bool { return w.source(p.Addr()).IsValid() })
		switch {
		case i >= 0:
			flows = append(flows, Subflow{w.Name, w.source(peers[i].Addr()), peers[i]})
		case a.Converter != nil && w.IPv6.IsValid():
			flows = append(flows, Subflow{WAN: w.Name, Source: w.IPv6})
		case a.Converter != nil:
			flows = append(flows, Subflow{WAN: w.Name, Source: w.IPv4})
		}
	}
	return flows
}

// Reason is why a decision is what it is.
type Reason int

// The reasons.
const (
	_                    Reason = iota
	ReasonRule                  // a rule says so
	ReasonUnknown               // nothing is known of the server yet
	ReasonServerMute            // the server does not speak MPTCP
	ReasonServerSpeaks          // it does, and no WAN is lost without the converter
	ReasonJoinsFail             // it does, and takes no second subflow
	ReasonWouldLose             // it does, but a WAN cannot reach it
	ReasonNoConverter           // none is configured
	ReasonConvertersDown        // none answers
	ReasonConvertersFull        // those that answer take no more connections
	ReasonVerdict               // Decision.Verdict
	ReasonFallbackReject        // none answers, and nothing else is wanted
	ReasonUnreachable           // no WAN has the family
)

// Explain puts the reason into words.
func (d *Decision) Explain() string {
	switch d.Reason {
	case ReasonRule:
		if d.Rule == "" {
			return "a rule says so"
		}
		return fmt.Sprintf("rule %s says so", d.Rule)
	case ReasonUnknown:
		return "it is not known yet whether the server speaks MPTCP"
	case ReasonServerMute:
		return "the server does not speak MPTCP"
	case ReasonServerSpeaks:
		return "the server speaks MPTCP, and every WAN reaches it"
	case ReasonJoinsFail:
		return "the server speaks MPTCP, but takes no second subflow"
	case ReasonWouldLose:
		return fmt.Sprintf("the server speaks MPTCP, but %s cannot reach it without the converter", d.Lost)
	case ReasonNoConverter:
		return "no converter is configured"
	case ReasonConvertersDown:
		return "no converter answers"
	case ReasonConvertersFull:
		return "no converter has room for more connections"
	case ReasonVerdict:
		if d.Path == config.PathReject {
			return d.Verdict.String() + ", and globals.fallback is reject"
		}
		return d.Verdict.String()
	case ReasonFallbackReject:
		return "no converter answers, and globals.fallback is reject"
	case ReasonUnreachable:
		return "no WAN reaches the server's address family"
	}
	return ""
}

// String names the state as braid reports it.
func (s ConverterState) String() string {
	switch s {
	case ConverterDown:
		return "down"
	case ConverterRefused:
		return "refused"
	case ConverterFull:
		return "full"
	case ConverterUp:
		return "up"
	}
	return "unknown"
}
