// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package path decides how a LAN connection is carried. It is pure: what it
// goes by is in Network, and the answer says why.
package path

import (
	"fmt"
	"net/netip"

	"braid/agent/config"
)

// Network is what decisions depend on. It is not changed once it is in use.
type Network struct {
	WANs       []WAN // usable ones, the primary first
	Converters []Converter
	Fallback   config.Fallback
}

// WAN is a usable WAN: the addresses from which first subflows start, the
// invalid address where it lacks a family.
type WAN struct {
	Name       string
	IPv4, IPv6 netip.Addr
}

// Converter is a converter with its addresses resolved.
type Converter struct {
	Name   string
	Addrs  []netip.AddrPort
	Cookie []byte
}

// Attempt is one way to reach the destination of a LAN connection.
type Attempt struct {
	Path      config.Path // convert or direct
	Converter *Converter  // with convert
	WAN       string      // of the first subflow
	Source    netip.Addr
	Peer      netip.AddrPort
}

// Decision is the answer for one destination.
type Decision struct {
	Attempts []Attempt // in this order; none: reject
	Reason   string
}

// Decide says how to carry a connection to dest.
func (n *Network) Decide(dest netip.AddrPort) Decision {
	var d Decision
	for i := range n.Converters {
		c := &n.Converters[i]
		if a, ok := n.reachAny(c.Addrs); ok {
			a.Path, a.Converter = config.PathConvert, c
			d.Attempts = append(d.Attempts, a)
		}
	}
	if len(d.Attempts) > 0 {
		d.Reason = fmt.Sprintf("through converter %s", d.Attempts[0].Converter.Name)
		if n.Fallback == config.FallbackReject {
			return d
		}
	} else {
		d.Reason = "no converter is configured or reachable"
		if len(n.Converters) > 0 && n.Fallback == config.FallbackReject {
			return d
		}
	}
	if a, ok := n.reach(dest); ok {
		a.Path = config.PathDirect
		d.Attempts = append(d.Attempts, a)
	}
	if len(d.Attempts) == 0 {
		d.Reason = fmt.Sprintf("no WAN reaches %v", dest.Addr())
	}
	return d
}

// reachAny finds the first pair of WAN and address that fit each other, by
// the order of WANs, then that of the addresses.
func (n *Network) reachAny(peers []netip.AddrPort) (Attempt, bool) {
	for _, w := range n.WANs {
		for _, p := range peers {
			if s := w.source(p.Addr()); s.IsValid() {
				return Attempt{WAN: w.Name, Source: s, Peer: p}, true
			}
		}
	}
	return Attempt{}, false
}

func (n *Network) reach(peer netip.AddrPort) (Attempt, bool) {
	return n.reachAny([]netip.AddrPort{peer})
}

func (w WAN) source(peer netip.Addr) netip.Addr {
	if peer.Is4() {
		return w.IPv4
	}
	return w.IPv6
}
