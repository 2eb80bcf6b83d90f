// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"net/netip"
	"slices"
	"sort"
	"time"

	"braid/agent/config"
)

// Network is what decisions depend on. Make one with New; it is not changed
// once it is in use.
type Network struct {
	Legs       []Leg       // where subflows may start, in the order in which they are tried
	Converters []Converter // preferred first
	Fallback   config.Fallback
	// StartsIPv6 is the family in which first subflows are dialled as a rule:
	// what is only for the moment does not change it.
	StartsIPv6 bool
	// KeepMapped says that idle connections have to be kept in the memory of NATs.
	KeepMapped bool
}

// Leg is one family of a usable WAN: the address from which its subflows start.
// A WAN with only IPv6 whose IPv4 is translated (CLAT, RFC 6877) has IPv4 like
// any other.
type Leg struct {
	WAN     string
	Source  netip.Addr
	Metered bool // by volume
	Waits   bool // connections that start elsewhere have no subflow over it for now
	// Mute says that no converter is reached over the leg, while another leg
	// reaches the same one: what answers here is not to be believed.
	Mute bool
}

// Converter is a converter with its addresses resolved.
type Converter struct {
	Name   string
	Addrs  []netip.AddrPort // preferred first
	Key    []byte           // or
	Cookie []byte           // it knows us by
	// OnPath is the WAN on whose path it stands, addressed by nobody, where it is
	// not asked to convert; empty: it is.
	OnPath string
	State  ConverterState
	// IPv4 and IPv6 are what it says of the families in which it reaches servers.
	IPv4, IPv6 Tri
	Answers    map[Way]Answer // those known
	Ways       []Way          // in the order in which they are tried; made by New
}

// Way is how a converter may be reached: over a leg.
type Way struct {
	WAN    string
	Source netip.Addr
	Peer   netip.AddrPort
}

// Answer is what a converter is like by one of its ways. The zero value is that
// of one of which nothing is known, because it has not been asked or is asked
// again in doubt.
type Answer struct {
	State ConverterState // unknown, up, full, refused, down
	MPTCP bool           // with up: it arrives
	RTT   time.Duration  // of the handshake
	At    time.Time      // when that was learnt
}

// Answer is what a converter is like by a way; the zero value where either is
// not known.
func (n *Network) Answer(converter string, w Way) Answer {
	for _, c := range n.Converters {
		if c.Name == converter {
			return c.Answers[w]
		}
	}
	return Answer{}
}

// talks says that the converter serves us by this way, now or when it has room.
func (a Answer) talks() bool { return a.State == ConverterUp || a.State == ConverterFull }

// works says whether connections have the best that they can have, then.
func (a Answer) works() bool { return a.talks() && a.MPTCP }

// fails says that somebody on the way keeps Convert or MPTCP from passing, or
// that the converter is away.
func (a Answer) fails() bool { return a.State == ConverterDown || a.State == ConverterUp && !a.MPTCP }

// Trusted says whether a converter serves us by every way that is known: where
// it does not, what it says of a server may be about us.
func (c *Converter) Trusted() bool {
	for _, w := range c.Ways {
		if s := c.Answers[w].State; s == ConverterDown || s == ConverterRefused {
			return false
		}
	}
	return c.State == ConverterUp
}

// rank is in which order ways are tried.
func (a Answer) rank() int {
	switch {
	case a.State == ConverterFull:
		return 3
	case a.works():
		return 0
	case a.State == ConverterUnknown:
		return 1
	case a.State == ConverterUp:
		return 2
	case a.State == ConverterRefused:
		return 4
	}
	return 5
}

// New makes a Network of legs, those that are preferred first. Of converters it
// takes all but their Ways. Neither a leg that is mute nor a way that fails is
// first while there are others, and none that is unproven while others work.
func New(legs []Leg, converters []Converter, fallback config.Fallback) *Network {
	n := &Network{Legs: slices.Clone(legs), Converters: slices.Clone(converters), Fallback: fallback}
	n.findWays()
	for i := range n.Legs {
		n.Legs[i].Mute = n.mute(n.Legs[i])
	}
	// Package sort has one copy of this for all, package slices one for each type.
	sort.SliceStable(n.Legs, func(i, j int) bool { return muteRank(n.Legs[i]) < muteRank(n.Legs[j]) })
	n.findWays()
	n.StartsIPv6 = n.startsIPv6()
	sort.SliceStable(n.Legs, func(i, j int) bool { return n.rank(n.Legs[i]) < n.rank(n.Legs[j]) })
	for _, c := range n.Converters {
		sort.SliceStable(c.Ways, func(i, j int) bool { return c.Answers[c.Ways[i]].rank() < c.Answers[c.Ways[j]].rank() })
	}
	return n
}

// findWays lists all by the order of legs, then that of addresses.
func (n *Network) findWays() {
	for i := range n.Converters {
		c := &n.Converters[i]
		c.Ways = nil
		for _, l := range n.Legs {
			for _, a := range c.Addrs {
				if a.Addr().Is6() == l.Source.Is6() {
					c.Ways = append(c.Ways, Way{l.WAN, l.Source, a})
				}
			}
		}
	}
}

// mute says whether every way over a leg fails, and one of their peers is
// reached over another leg.
func (n *Network) mute(l Leg) bool {
	heard := false
	for _, c := range n.Converters {
		for _, w := range c.Ways {
			if w.Source != l.Source || w.WAN != l.WAN {
				continue
			}
			if !c.Answers[w].fails() {
				return false
			}
			heard = heard || slices.ContainsFunc(c.Ways, func(o Way) bool { return o.Peer == w.Peer && c.Answers[o].works() })
		}
	}
	return heard
}

func muteRank(l Leg) int {
	if l.Mute {
		return 1
	}
	return 0
}

// rank is in which order legs are tried: one over which a converter works
// before others, and those before one that is mute.
func (n *Network) rank(l Leg) int {
	if l.Mute {
		return 2
	}
	for _, c := range n.Converters {
		for _, w := range c.Ways {
			if w.Source == l.Source && w.WAN == l.WAN && c.Answers[w].works() {
				return 0
			}
		}
	}
	return 1
}

// startsIPv6 is the family of the first attempt by way of a converter, the legs
// that are mute aside; without one the first WAN's own.
func (n *Network) startsIPv6() bool {
	for _, c := range n.Converters {
		for _, w := range c.Ways {
			if !c.Answers[w].fails() {
				return w.Source.Is6()
			}
		}
		if len(c.Ways) > 0 {
			return c.Ways[0].Source.Is6()
		}
	}
	return len(n.Legs) > 0 && !n.source(n.Legs[0].WAN, false).IsValid()
}

// Doubt is the Network as long as it is not known whether a converter is still
// reached by a way.
func (n *Network) Doubt(converter string, w Way) *Network {
	converters := slices.Clone(n.Converters)
	for i, c := range converters {
		if a := c.Answers[w]; c.Name == converter && a.State == ConverterUp {
			answers := make(map[Way]Answer, len(c.Answers))
			for o, known := range c.Answers {
				answers[o] = known
			}
			answers[w] = Answer{At: a.At}
			converters[i].Answers = answers
		}
	}
	doubted := New(n.Legs, converters, n.Fallback)
	doubted.StartsIPv6, doubted.KeepMapped = n.StartsIPv6, n.KeepMapped
	return doubted
}

// wans names the WANs, in the order of their legs, without the legs that are mute.
func (n *Network) wans() (names []string) {
	for _, l := range n.Legs {
		if !l.Mute && !slices.Contains(names, l.WAN) {
			names = append(names, l.WAN)
		}
	}
	return names
}

// source is where the subflows of a WAN start in a family; invalid: nowhere.
func (n *Network) source(wan string, v6 bool) netip.Addr {
	for _, l := range n.Legs {
		if l.WAN == wan && l.Source.Is6() == v6 && !l.Mute {
			return l.Source
		}
	}
	return netip.Addr{}
}

// Starts says whether subflows of a WAN start at an address.
func (n *Network) Starts(wan string, at netip.Addr) bool {
	return slices.ContainsFunc(n.Legs, func(l Leg) bool { return l.WAN == wan && l.Source == at })
}

// waits says whether a WAN does.
func (n *Network) waits(wan string) bool {
	return slices.ContainsFunc(n.Legs, func(l Leg) bool { return l.WAN == wan && l.Waits })
}

// wanted is how many WANs are to carry a connection that starts on one.
func (n *Network) wanted(first string) (count int) {
	for _, wan := range n.wans() {
		if wan == first || !n.waits(wan) {
			count++
		}
	}
	return count
}

// lacking names the first WAN that does not have a family; empty: none.
func (n *Network) lacking(v6 bool) string {
	for _, wan := range n.wans() {
		if !n.source(wan, v6).IsValid() {
			return wan
		}
	}
	return ""
}

// Reach finds the first pair of leg and address that fit each other, by
// the order of legs, then that of the addresses.
func (n *Network) Reach(peers ...netip.AddrPort) (Way, bool) {
	for _, l := range n.Legs {
		for _, p := range peers {
			if p.Addr().Is6() == l.Source.Is6() {
				return Way{l.WAN, l.Source, p}, true
			}
		}
	}
	return Way{}, false
}

// Carries says whether connections to servers of a family are for us: some
// attempt may carry them, by a converter or straight, or it is wanted that they
// be refused while no converter answers.
func (n *Network) Carries(v6 bool) bool {
	reject := n.Fallback == config.FallbackReject && len(n.Converters) > 0
	if !reject && slices.ContainsFunc(n.Legs, func(l Leg) bool { return l.Source.Is6() == v6 }) {
		return true
	}
	return slices.ContainsFunc(n.Converters, func(c Converter) bool {
		cannot := v6 && c.IPv6 == No || !v6 && c.IPv4 == No
		return len(c.Ways) > 0 && !cannot && (reject || c.State.usable())
	})
}
