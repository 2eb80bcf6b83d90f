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
	Remote netip.AddrPort // invalid: an address that is announced
}

// Expected lists the subflows of a connection made by an attempt: one from
// every WAN that has the family of the peer or, where the peer is a converter,
// that of another address of it; and from the others where addresses are
// announced. Legs that are mute bring none, nor do WANs that wait.
func (n *Network) Expected(a Attempt) (flows []Subflow) {
	peers := []netip.AddrPort{a.Peer}
	if a.Converter != nil {
		peers = append(peers, a.Converter.Addrs...)
	}
	for _, wan := range n.wans() {
		if wan != a.WAN && n.waits(wan) {
			continue
		}
		i := slices.IndexFunc(peers, func(p netip.AddrPort) bool { return n.source(wan, p.Addr().Is6()).IsValid() })
		switch lent := n.source(wan, !a.Peer.Addr().Is6()); {
		case a.Converts && wan != a.WAN && (!lent.IsValid() || !a.Lends):
		case a.Converts && wan != a.WAN:
			flows = append(flows, Subflow{WAN: wan, Source: lent})
		case i >= 0:
			flows = append(flows, Subflow{wan, n.source(wan, peers[i].Addr().Is6()), peers[i]})
		case a.Converter == nil && !a.Lends:
		case n.source(wan, true).IsValid():
			flows = append(flows, Subflow{WAN: wan, Source: n.source(wan, true)})
		default:
			flows = append(flows, Subflow{WAN: wan, Source: n.source(wan, false)})
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
	ReasonLent                  // a WAN cannot reach it, but an address is lent to that
	ReasonTrial                 // whether one is lent is found out
	ReasonOnPath                // a converter stands on the path
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
	case ReasonLent:
		return fmt.Sprintf("the server speaks MPTCP, and %s, which cannot reach it, is lent an address on the path", d.Lost)
	case ReasonTrial:
		return fmt.Sprintf("the server speaks MPTCP, and it is tried whether %s, which cannot reach it, is lent an address on the path", d.Lost)
	case ReasonOnPath:
		a := d.attempts[0]
		return fmt.Sprintf("converter %s stands on the path of %s", a.OnPath, a.WAN)
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
