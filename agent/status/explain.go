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
	if reason := passes(p, src, dest, proto); reason != "" {
		return report.Explanation{Address: dest.Addr(), Path: config.PathPass, Reason: reason, Subflows: []report.ExpectedSubflow{}}, nil
	}
	n := v.proxy.Network()
	if n == nil {
		return report.Explanation{}, fmt.Errorf("deciding for %v: no network yet", dest)
	}
	f := path.Flow{Dest: dest, Path: config.PathAuto}
	r, err := p.Firewall.Match(src, dest, func(rule string) (bool, error) {
		return reconcile.InDomains(ctx, string(p.Filter), rule, dest.Addr())
	})
	switch {
	case err != nil:
		return report.Explanation{}, fmt.Errorf("looking for %v among the addresses of domains: %w", dest.Addr(), err)
	case r != nil && (r.Path == config.PathPass || r.Path == config.PathReject):
		by := path.Decision{Reason: path.ReasonRule, Rule: r.Section}
		return report.Explanation{Address: dest.Addr(), Path: r.Path, Reason: by.Explain(), Rule: r.Section, Subflows: []report.ExpectedSubflow{}}, nil
	case r != nil:
		f.Path, f.Rule = r.Path, r.Section
	}
	if reason := spared(p.Firewall, dest.Addr()); reason != "" {
		return report.Explanation{Address: dest.Addr(), Path: config.PathPass, Reason: reason, Subflows: []report.ExpectedSubflow{}}, nil
	}
	known := v.proxy.Memory.Lookup(dest)
	dec := n.Decide(f, known, v.proxy.Memory.Verdicts(dest.Addr(), n.Converters)...)
	e := report.Explanation{Address: dest.Addr(), Path: dec.Path, Reason: dec.Explain(), Rule: dec.Rule, Subflows: []report.ExpectedSubflow{}, Seen: seen(known)}
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
	f := p.Firewall.Family(dest.Addr().Is6())
	switch {
	case f.Left:
		return "the default route of its address family is somebody else's"
	case slices.ContainsFunc(f.Guests, func(g plan.Selector) bool { return g.Selects(src, dest, proto) }):
		return "somebody else's routing rule decides about it"
	case proto != config.ProtoTCP:
		return "only TCP is intercepted"
	case slices.ContainsFunc(p.Firewall.LAN, func(lan netip.Prefix) bool { return lan.Contains(dest.Addr()) }):
		return "the destination is in the LAN"
	case !f.Take:
		return "neither a converter nor a WAN reaches its address family"
	}
	return ""
}

// spared says why something is not intercepted that no rule lets pass or
// refuses, nothing if it is.
func spared(f *plan.Firewall, dest netip.Addr) string {
	switch {
	case slices.ContainsFunc(f.Access, func(net netip.Prefix) bool { return net.Contains(dest) }):
		return "the destination is on a WAN's own private network"
	case slices.Contains(f.Converters, dest):
		return "the destination is a converter"
	}
	return ""
}
