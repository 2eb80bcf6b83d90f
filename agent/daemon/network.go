// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/path"
	"braid/agent/reconcile"
	"braid/agent/report"
)

// known is what is known of each converter.
func known(statuses map[string]converter.Status) map[string]path.Converter {
	all := make(map[string]path.Converter, len(statuses))
	for name, s := range statuses {
		all[name] = path.Converter{State: s.State, IPv4: s.IPv4, IPv6: s.IPv6}
	}
	return all
}

// targets are the converters as they are to be asked: over the WANs that a
// connection of a user would be tried on.
func targets(n *path.Network) (ts []converter.Target) {
	for _, c := range n.Converters {
		t := converter.Target{Name: c.Name, Cookie: string(c.Cookie)}
		left := *n
		for i := range t.Ways {
			a, ok := left.Reach(c.Addrs)
			if !ok {
				break
			}
			t.Ways[i] = converter.Way{Source: a.Source, Peer: a.Peer}
			for left.WANs[0].Name != a.WAN {
				left.WANs = left.WANs[1:]
			}
			left.WANs = left.WANs[1:]
		}
		if t.Ways[0].Peer.IsValid() {
			ts = append(ts, t)
		}
	}
	return ts
}

// conditions are the states of the configured converters.
func (d *Daemon) conditions(c config.Config, old map[string]condition) map[string]condition {
	known := d.converters.Status()
	states := make(map[string]condition, len(c.Converters))
	for _, conv := range c.Converters {
		states[conv.Name] = old[conv.Name].become(known[conv.Name].State.String(), "")
	}
	return states
}

// reportConverters tells of the configured ones, an entry for each address.
func (d *Daemon) reportConverters(c config.Config, states map[string]condition) []report.Converter {
	known := d.converters.Status()
	all := []report.Converter{}
	for _, conv := range c.Converters {
		s := states[conv.Name]
		for _, a := range conv.Addresses {
			all = append(all, report.Converter{
				Name: conv.Name, Address: a.String(), Port: conv.Port,
				State: s.state, RTT: milliseconds(known[conv.Name].RTT), Since: elapsed(s.since),
				IPv4: d.reaches(conv.Name, known[conv.Name].IPv4, false),
				IPv6: d.reaches(conv.Name, known[conv.Name].IPv6, true),
			})
		}
	}
	return all
}

// reaches is whether a converter reaches servers of a family: what it says of
// itself, unless connections have shown the contrary or it says nothing.
func (d *Daemon) reaches(converter string, says path.Tri, ipv6 bool) *bool {
	known := d.proxy.Memory.Reaches(converter, ipv6)
	if known != path.No {
		known = cmp.Or(says, known)
	}
	if known == path.Unknown {
		return nil
	}
	yes := known == path.Yes
	return &yes
}

// Explain is the answer of the method "explain".
func (d *Daemon) Explain(ctx context.Context, src netip.Addr, dest netip.AddrPort, proto config.Proto) (report.Explanation, error) {
	d.state.mu.Lock()
	p := d.state.plan
	d.state.mu.Unlock()
	if reason := passes(p, dest.Addr(), proto); reason != "" {
		return report.Explanation{Address: dest.Addr(), Path: config.PathPass, Reason: reason, Subflows: []report.ExpectedSubflow{}}, nil
	}
	n := d.proxy.Network()
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
	dec := n.Decide(f, d.proxy.Memory.Lookup(dest), d.proxy.Memory.Verdicts(dest.Addr(), n.Converters)...)
	e := report.Explanation{Address: dest.Addr(), Path: dec.Path, Reason: dec.Explain(), Rule: dec.Rule, Subflows: []report.ExpectedSubflow{}}
	if len(dec.Attempts()) == 0 {
		return e, nil
	}
	for _, s := range n.Expected(dec.Attempts()[0]) {
		x := report.ExpectedSubflow{WAN: s.WAN, Family: family(s.Source.Is6()), Remote: "announced"}
		if s.Remote.IsValid() {
			x.Remote = s.Remote.String()
		}
		e.Subflows = append(e.Subflows, x)
	}
	return e, nil
}

// serversFile keeps what is known of servers across restarts.
func (d *Daemon) serversFile() string { return filepath.Join(d.State, "servers") }

// remember reads what an earlier agent knew of servers.
func (d *Daemon) remember() {
	f, err := os.Open(d.serversFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		defer f.Close()
		err = d.proxy.Memory.Load(f)
	}
	if err != nil {
		d.log.Warn("reading what is known of servers", "file", d.serversFile(), "error", err)
	}
}

// memorize writes it for the next one.
func (d *Daemon) memorize() error {
	if err := os.MkdirAll(d.State, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.State, "servers-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it is renamed there is none
	if err := errors.Join(d.proxy.Memory.Save(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), d.serversFile())
}
