// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package path decides how a LAN connection is carried: through a converter,
// straight to the server, or not at all. The decision is pure: what it goes by
// is the Network and what is Known of the server, and the answer says why.
package path

import (
	"net/netip"
	"slices"

	"braid/agent/config"
)

// ConverterState is what is known of a converter.
type ConverterState int

// The states of a converter.
const (
	ConverterUnknown ConverterState = iota // not asked yet
	ConverterUp
	ConverterDown
	ConverterRefused // it answers, and does not serve us
	ConverterFull    // it serves us, and takes no more connections for now
)

// usable says whether connections are tried through it.
func (s ConverterState) usable() bool { return s == ConverterUnknown || s == ConverterUp }

// Serves says whether they are if there is no other way.
func (s ConverterState) Serves() bool { return s.usable() || s == ConverterFull }

// Flow is a LAN connection, and what the packet filter, which knows all that
// rules go by, says of it.
type Flow struct {
	Src  netip.Addr
	Dest netip.AddrPort
	Path config.Path // convert, direct or auto
	Rule string      // that says so, where it is known

	Class uint8 // the traffic class that it is carried in, see mptcp.TrafficClass
}

// Attempt is one way to reach the destination of a flow.
type Attempt struct {
	_         [0]func()   // nobody compares them, which would take 2 kB of program
	Path      config.Path // convert or direct
	Converter *Converter  // with convert
	Way                   // of the first subflow
	// Proven says that the converter has talked by this way before: what answers
	// there is it.
	Proven bool
	// MPTCP says that the attempt has failed if the server turns out not to
	// speak it: there is a converter that would have done better.
	MPTCP bool
	// OnPath names the converter that stands on the way, with direct; empty: none
	// that is known. Lends says that an address may be announced, by it or by
	// anybody, that WANs reach which lack the server's family.
	OnPath string
	Lends  bool
	// Converts says that it is that converter which answers, as the server does not
	// speak MPTCP: from other WANs the server itself would refuse a subflow.
	Converts bool
}

// Decision is the answer for one flow.
type Decision struct {
	Path   config.Path // of the first attempt; reject without any
	Reason Reason
	Rule   string // the flow's
	Lost   string // WAN that leaving the converter would cost
	// Bypass says that what a converter answers for the server is not the last
	// word: a direct attempt may follow. It is what a rule with path convert
	// does not want.
	Bypass  bool
	Verdict Verdict // that keeps a converter out, if one does

	attempts [MaxAttempts]Attempt
	n        int
}

// MaxAttempts bounds the ways that are tried: converters, by two ways each, and
// direct.
const MaxAttempts = 6

// Attempts are the ways to try, in order.
func (d *Decision) Attempts() []Attempt { return d.attempts[:d.n] }

// try adds an attempt, unless it would do what another one does: a server is
// asked again without MPTCP only where it was to be reached with that.
func (d *Decision) try(a Attempt) {
	does := func(b Attempt) bool {
		return b.Path == config.PathDirect && b.Way == a.Way && (!b.MPTCP || a.MPTCP || a.OnPath != "")
	}
	if a.Path == config.PathDirect && slices.ContainsFunc(d.Attempts(), does) {
		return
	}
	if d.n < MaxAttempts {
		d.attempts[d.n] = a
		d.n++
	}
}

// Decide says how to carry a flow; verdicts are those on its destination.
func (n *Network) Decide(f Flow, k Known, verdicts ...Verdict) Decision {
	d := Decision{Reason: ReasonRule, Rule: f.Rule, Bypass: f.Path != config.PathConvert}
	wanted := f.Path
	if wanted == config.PathAuto {
		wanted, d.Reason, d.Lost = n.auto(f.Dest.Addr(), k)
	}
	way, reachable := n.Reach(f.Dest)
	direct := Attempt{Path: config.PathDirect, Way: way}
	if wanted == config.PathDirect && reachable {
		direct.MPTCP = d.Reason != ReasonRule
		direct.Lends = d.Reason == ReasonLent || d.Reason == ReasonTrial
		d.try(direct)
	}
	if wanted == config.PathConvert || direct.MPTCP {
		before := d.n
		n.convert(&d, f.Dest, k, verdicts, ConverterState.usable)
		converted := slices.ContainsFunc(d.Attempts(), func(a Attempt) bool { return a.Path == config.PathConvert })
		for i := range d.Attempts() {
			d.attempts[i].MPTCP = d.attempts[i].MPTCP && converted // else nobody would do better
		}
		switch {
		case d.n > before && before == 0 && d.attempts[0].OnPath != "" && d.Reason != ReasonRule:
			d.Reason = ReasonOnPath
		case d.n > before:
		case before == 0:
			d.Reason = n.unconverted(&d)
		case d.Reason == ReasonServerSpeaks && n.lacking(f.Dest.Addr().Is6()) != "":
			d.Reason = n.unconverted(&d)
		}
		switch {
		case wanted != config.PathConvert:
		case n.Fallback == config.FallbackDirect && reachable:
			d.try(Attempt{Path: config.PathDirect, Way: way})
		case d.n == 0: // what a converter could not do it may be able to do by now
			n.convert(&d, f.Dest, k, nil, ConverterState.Serves)
		}
	}
	switch {
	case d.n > 0:
		d.Path = d.attempts[0].Path
	case !reachable && d.Reason != ReasonFallbackReject:
		d.Path, d.Reason = config.PathReject, ReasonUnreachable
	default:
		d.Path = config.PathReject
	}
	return d
}

// auto decides without a rule: direct only where nothing is lost by it.
func (n *Network) auto(dest netip.Addr, k Known) (config.Path, Reason, string) {
	switch {
	case k.MPTCP == Unknown:
		return config.PathConvert, ReasonUnknown, ""
	case k.MPTCP == No:
		return config.PathConvert, ReasonServerMute, ""
	case k.Joins == No:
		return config.PathConvert, ReasonJoinsFail, ""
	}
	wan := n.lacking(dest.Is6())
	switch {
	case wan == "" || !slices.ContainsFunc(n.Converters, func(c Converter) bool { return c.State.usable() }):
		return config.PathDirect, ReasonServerSpeaks, ""
	case k.Lends == Yes:
		return config.PathDirect, ReasonLent, wan
	case k.Trial:
		return config.PathDirect, ReasonTrial, wan
	}
	return config.PathConvert, ReasonWouldLose, wan
}

// onPath is the attempt by a converter that stands on the path of a WAN:
// straight to the server, over that WAN first. There is none where it is known
// not to convert, or where lines are known to be lost by it, as long as another
// converter may do better.
func (n *Network) onPath(c *Converter, dest netip.AddrPort, k Known) (Attempt, bool) {
	source := n.source(c.OnPath, dest.Addr().Is6())
	if c.OnPath == "" || !source.IsValid() {
		return Attempt{}, false
	}
	a := Attempt{
		Path: config.PathDirect, Way: Way{c.OnPath, source, dest},
		OnPath: c.Name, Lends: k.Lends != No, Converts: k.MPTCP == No && k.OnPath == Yes,
	}
	a.MPTCP = slices.ContainsFunc(n.Converters, func(o Converter) bool { return o.State.usable() && len(o.Ways) > 0 })
	loses := k.OnPath == No || k.Joins == No && !a.Converts || len(n.Expected(a)) < n.wanted(a.WAN)
	return a, !a.MPTCP || !loses
}

// convert adds an attempt for every converter in a state that will do, and then
// one each by another way: the first may have died without anybody knowing
// yet. A converter on which there is a verdict is passed over.
func (n *Network) convert(d *Decision, dest netip.AddrPort, k Known, verdicts []Verdict, will func(ConverterState) bool) {
	for _, again := range []bool{false, true} {
		for i := range n.Converters {
			c := &n.Converters[i]
			if a, ok := n.onPath(c, dest, k); ok && d.n < MaxAttempts-1 {
				d.try(a)
			}
			if !will(c.State) {
				continue
			}
			if f := c.fault(dest.Addr(), verdicts); f.Incapable() || f != FaultNone && d.Bypass {
				d.Verdict = Verdict{c.Name, f}
				continue
			}
			w, ok := c.way(again)
			if ok && d.n < MaxAttempts-1 { // the last place is direct's
				d.try(Attempt{Path: config.PathConvert, Converter: c, Way: w, Proven: c.Answers[w].talks()})
			}
		}
	}
}

// way is the first of a converter's or, again, the next one over another WAN
// that does not fail.
func (c *Converter) way(again bool) (Way, bool) {
	i := slices.IndexFunc(c.Ways, func(w Way) bool {
		return !again || w.WAN != c.Ways[0].WAN && c.Answers[w].State.usable()
	})
	if i < 0 {
		return Way{}, false
	}
	return c.Ways[i], true
}

// fault is what keeps a converter from reaching a destination.
func (c *Converter) fault(dest netip.Addr, verdicts []Verdict) Fault {
	if dest.Is4() && c.IPv4 == No || dest.Is6() && c.IPv6 == No {
		return FaultFamily
	}
	for _, v := range verdicts {
		if v.Converter == c.Name {
			return v.Fault
		}
	}
	return FaultNone
}

// unconverted is why there is no converter to try.
func (n *Network) unconverted(d *Decision) Reason {
	switch {
	case len(n.Converters) == 0:
		return ReasonNoConverter
	case d.Verdict.Fault != FaultNone:
		return ReasonVerdict
	case slices.ContainsFunc(n.Converters, func(c Converter) bool { return c.State == ConverterFull }):
		return ReasonConvertersFull
	case n.Fallback == config.FallbackReject:
		return ReasonFallbackReject
	}
	return ReasonConvertersDown
}
