// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/reconcile"
	"braid/agent/report"
)

// Explain is the answer of the method "explain".
func (v *View) Explain(ctx context.Context, src netip.Addr, dest netip.AddrPort, proto config.Proto) (report.Explanation, error) {
	_, p := v.now()
	is := func(is config.Path, reason string) report.Explanation {
		return report.Explanation{Address: dest.Addr(), Path: is, Reason: reason, Subflows: []report.ExpectedSubflow{}}
	}
	if reason := passes(p, src, dest, proto); reason != "" {
		return is(config.PathPass, reason), nil
	}
	n := v.proxy.Network()
	if n == nil {
		return report.Explanation{}, fmt.Errorf("deciding for %v: no network yet", dest)
	}
	f := path.Flow{Dest: dest, Path: config.PathAuto}
	r, err := p.Firewall.Match(src, dest, proto, func(rule string) (bool, error) {
		return reconcile.InDomains(ctx, string(p.Filter), rule, dest.Addr())
	})
	switch {
	case err != nil:
		return report.Explanation{}, fmt.Errorf("looking for %v among the addresses of domains: %w", dest.Addr(), err)
	case r != nil && (r.Path == config.PathPass || r.Path == config.PathReject):
		by := path.Decision{Reason: path.ReasonRule, Rule: r.Section}
		e := is(r.Path, by.Explain())
		if e.Rule = r.Section; r.Path == config.PathPass {
			e.Subflows = steered(p, dest, r.Mark)
		}
		return e, nil
	case r == nil && proto == config.ProtoUDP && dest.Port() == quic && p.Firewall.BlockQUIC:
		return is(config.PathReject, "QUIC is refused, as block_quic says"), nil
	case proto != config.ProtoTCP:
		e := is(config.PathPass, "only TCP is intercepted")
		e.Subflows = steered(p, dest, 0)
		return e, nil
	case r != nil:
		f.Path, f.Rule = r.Path, r.Section
	}
	reason, err := spared(ctx, p, dest)
	if err != nil {
		return report.Explanation{}, err
	}
	if reason != "" {
		e := is(config.PathPass, reason)
		e.Subflows = steered(p, dest, 0)
		return e, nil
	}
	known := v.proxy.Memory.Lookup(dest)
	dec := n.Decide(f, known, v.proxy.Memory.Verdicts(dest.Addr(), n.Converters)...)
	e := is(dec.Path, dec.Explain())
	e.Rule, e.Seen = dec.Rule, seen(known)
	if len(dec.Attempts()) == 0 {
		return e, nil
	}
	first := dec.Attempts()[0]
	for _, s := range n.Expected(first) {
		x := report.ExpectedSubflow{WAN: s.WAN, Family: family(s.Source.Is6()), Remote: "announced", Peer: peer(first, s, known)}
		switch {
		case s.Remote.IsValid():
			x.Remote = s.Remote.String()
		case first.Converter == nil && known.Lent.IsValid():
			x.Remote = known.Lent.String()
		}
		e.Subflows = append(e.Subflows, x)
	}
	return e, nil
}

// quic is the port of QUIC (RFC 9114 section 3.1).
const quic = 443

// steered are the WANs of which a flow that is not intercepted takes one: that
// to which a mark pins it, else those among which such flows are divided.
func steered(p plan.Plan, dest netip.AddrPort, mark uint32) []report.ExpectedSubflow {
	to := []report.ExpectedSubflow{}
	v6 := dest.Addr().Is6()
	for _, w := range p.WANs {
		takes := slices.ContainsFunc(p.Firewall.Family(v6).Shares, func(s plan.Share) bool {
			return s.Mark == w.Mark() && (s.Mark == mark || mark == 0 && s.Usable)
		})
		if takes {
			to = append(to, report.ExpectedSubflow{WAN: w.Name, Family: family(v6), Remote: dest.String(), Peer: "server"})
		}
	}
	return to
}

// peer says who is expected at the far end of a subflow.
func peer(a path.Attempt, s path.Subflow, k path.Known) string {
	switch {
	case a.Converter != nil:
		return "converter"
	case !s.Remote.IsValid():
		return "lent"
	case a.Converts:
		return "mcp"
	case a.OnPath != "" && k.MPTCP != path.Yes && s.WAN == a.WAN:
		return "server or mcp"
	}
	return "server"
}

// seen is what is known of a server as it is reported.
func seen(k path.Known) report.Seen {
	s := report.Seen{MPTCP: yesNo(k.MPTCP), Joins: yesNo(k.Joins), OnPath: yesNo(k.OnPath), Lends: yesNo(k.Lends)}
	if k.Lent.IsValid() {
		s.Lent = k.Lent.String()
	}
	return s
}

// yesNo is nil for what is not known.
func yesNo(t path.Tri) *bool {
	if t == path.Unknown {
		return nil
	}
	yes := t == path.Yes
	return &yes
}

// passes says why something is not intercepted, nothing if it is. Others come
// first, as in the packet filter.
func passes(p plan.Plan, src netip.Addr, dest netip.AddrPort, proto config.Proto) string {
	if p.Firewall == nil {
		return "nothing is intercepted now"
	}
	f, a := p.Firewall.Family(dest.Addr().Is6()), dest.Addr()
	own := func(w plan.WAN) bool {
		return slices.ContainsFunc(w.Legs, func(l plan.Leg) bool { return slices.Contains(l.Addrs, a) })
	}
	switch {
	case slices.ContainsFunc(p.WANs, own), a.IsLoopback():
		return "the destination is the gateway itself"
	case !a.IsGlobalUnicast(): // which takes in addresses of private networks
		return "the destination is no address that is forwarded to"
	case f.Left:
		return "the default route of its address family is somebody else's"
	case slices.ContainsFunc(f.Guests, func(g plan.Selector) bool { return g.Selects(src, dest, proto) }):
		return "somebody else's routing rule decides about it"
	case slices.ContainsFunc(p.Firewall.LAN, func(lan netip.Prefix) bool { return lan.Contains(dest.Addr()) }):
		return "the destination is in the LAN"
	case proto == config.ProtoTCP && !f.Take:
		return "neither a converter nor a WAN reaches its address family"
	}
	return ""
}

// spared says why something is not intercepted that no rule lets pass or
// refuses, nothing if it is.
func spared(ctx context.Context, p plan.Plan, dest netip.AddrPort) (string, error) {
	f := p.Firewall
	unreached, err := reconcile.IsUnreached(ctx, string(p.Filter), dest)
	if err != nil {
		return "", fmt.Errorf("looking for %v among the servers that could not be reached: %w", dest, err)
	}
	switch {
	case unreached:
		return "it could not be reached lately, and what goes there is forwarded for a while", nil
	case slices.ContainsFunc(f.Helped, func(r config.PortRange) bool { return r.Contains(dest.Port()) }):
		return "other connections belong to one to this port, which the packet filter sees only where it is forwarded", nil
	case slices.ContainsFunc(f.Access, func(net netip.Prefix) bool { return net.Contains(dest.Addr()) }):
		return "the destination is on a WAN's own private network", nil
	case slices.Contains(f.Converters, dest.Addr()):
		return "the destination is a converter", nil
	}
	return "", nil
}
