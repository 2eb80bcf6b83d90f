// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/transport/mptcp"
)

// state is what the loop last saw, for whoever asks.
type state struct {
	mu       sync.Mutex
	config   config.Config
	plan     plan.Plan
	problems config.Problems
	wans     map[string]wanState
}

// wanState is what was said of a WAN last.
type wanState struct {
	state, reason string
	since         time.Time
}

func (s *state) set(c config.Config, p plan.Plan, problems config.Problems) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.plan, s.problems = c, p, problems
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// judge is a WAN's state and why.
func judge(w plan.WAN) (state, reason string) {
	switch {
	case w.Role == config.RoleOff:
		return "off", w.Reason
	case !w.Usable:
		return "down", w.Reason
	}
	return "up", w.Reason
}

// announce tells the world of WANs whose state has changed.
func (l *loop) announce(ctx context.Context, p plan.Plan) {
	l.state.mu.Lock()
	old := l.state.wans
	wans := make(map[string]wanState, len(p.WANs))
	type change struct{ name, from, to, reason string }
	var changes []change
	for _, w := range p.WANs {
		s, reason := judge(w)
		was, known := old[w.Name]
		now := wanState{s, reason, was.since}
		if !known || was.state != s {
			now.since = time.Now()
			changes = append(changes, change{w.Name, cmp.Or(was.state, "down"), s, reason})
		}
		wans[w.Name] = now
	}
	l.state.wans = wans
	l.state.mu.Unlock()
	for _, c := range changes {
		l.log.Info("wan", "name", c.name, "from", c.from, "to", c.to, "reason", c.reason)
		l.send(ctx, "braid.wan", map[string]any{"wan": c.name, "from": c.from, "to": c.to, "reason": c.reason})
	}
}

// Status is the answer of the method "status".
func (d *Daemon) Status() report.Status {
	wans := d.WANs().WANs
	d.state.mu.Lock()
	c, p, problems := d.state.config, d.state.plan, d.state.problems
	d.state.mu.Unlock()
	st := d.proxy.Stats()
	s := report.Status{
		Version:    d.Version,
		Uptime:     int(time.Since(d.start).Seconds()),
		State:      overall(c, wans),
		Problems:   report.Problems(problems),
		Kernel:     d.kernel(),
		Converters: []report.Converter{},
		WANs:       wans,
	}
	if p.Firewall != nil {
		s.Firewall = "nftables"
	}
	for _, conv := range c.Converters {
		for _, a := range conv.Addresses {
			s.Converters = append(s.Converters, report.Converter{Name: conv.Name, Address: a.String(), Port: conv.Port, State: "up"})
		}
	}
	open := d.proxy.Connections()
	s.Connections = report.Totals{Open: len(open), Total: st.Total.Load(), Convert: st.Convert.Load(),
		Direct: st.Direct.Load(), TCPFallback: st.TCPFallback.Load()}
	s.Bytes = report.Bytes{RX: st.Down.Load(), TX: st.Up.Load()}
	for _, conn := range open {
		s.Bytes.RX += conn.Down
		s.Bytes.TX += conn.Up
	}
	return s
}

func (d *Daemon) kernel() report.Kernel {
	f := mptcp.Features()
	return report.Kernel{Release: f.Release, MPTCP: f.MPTCP, TFO: f.FastOpen, TProxy: true}
}

func overall(c config.Config, wans []report.WAN) report.State {
	if !c.Globals.Enabled || len(wans) == 0 {
		return report.StateDisabled
	}
	up, wanted := 0, 0
	for _, w := range wans {
		if w.State != "off" {
			wanted++
		}
		if w.State == "up" {
			up++
		}
	}
	switch {
	case up == 0:
		return report.StateDown
	case up < wanted:
		return report.StateDegraded
	}
	return report.StateOK
}

// WANs is the answer of the method "wans".
func (d *Daemon) WANs() report.WANs {
	d.state.mu.Lock()
	c, p, states := d.state.config, d.state.plan, d.state.wans
	d.state.mu.Unlock()
	subflows := d.subflows(p)
	counters := netstate.Counters()
	guess := make(map[string]config.Kind)
	for _, w := range p.WANs {
		guess[w.Name] = w.Kind
	}
	roles := c.Roles(guess)
	out := report.WANs{WANs: []report.WAN{}}
	for i, w := range p.WANs {
		s := states[w.Name]
		r := report.WAN{
			Name: w.Name, Device: w.Device, Kind: w.Kind, Role: roles[w.Name], EffectiveRole: w.Role,
			State: s.state, Reason: s.reason, Since: int(time.Since(s.since).Seconds()),
			Addresses: append([]netip.Addr{}, w.Addrs...), IPv4: report.IPv4Kind(w.IPv4.Source), IPv6: w.IPv6.Source.IsValid(),
			RXBytes: counters[w.Device].RX, TXBytes: counters[w.Device].TX, Subflows: subflows[w.Name],
			Quota: report.Quota{Limit: uint64(c.WANs[i].Quota) * 1e9},
		}
		if len(c.WANs[i].Interfaces) > 0 {
			r.Interface = c.WANs[i].Interfaces[0]
		}
		out.WANs = append(out.WANs, r)
	}
	return out
}

// subflows counts the subflows on each WAN.
func (d *Daemon) subflows(p plan.Plan) map[string]int {
	n := make(map[string]int)
	for _, c := range d.proxy.Connections() {
		for _, f := range subflows(c) {
			if w, ok := p.WANByAddr(f.Local.Addr()); ok {
				n[w.Name]++
			}
		}
	}
	return n
}

func subflows(c proxy.Connection) []mptcp.Subflow {
	flows, err := c.Conn.Subflows()
	if err != nil {
		return nil // it has just been closed
	}
	return flows
}

// Connections is the answer of the method "connections"; wan selects those
// with a subflow there.
func (d *Daemon) Connections(limit, offset int, wan string) report.Connections {
	d.state.mu.Lock()
	p := d.state.plan
	d.state.mu.Unlock()
	all := d.proxy.Connections()
	out := report.Connections{Connections: []report.Connection{}}
	for _, c := range all {
		shown := out.Total >= offset && len(out.Connections) < limit
		if !shown && wan == "" {
			out.Total++
			continue
		}
		r := connection(p, c)
		if wan != "" && !slices.ContainsFunc(r.Subflows, func(f report.Subflow) bool { return f.WAN == wan }) {
			continue
		}
		out.Total++
		if shown {
			out.Connections = append(out.Connections, r)
		}
	}
	return out
}

func connection(p plan.Plan, c proxy.Connection) report.Connection {
	r := report.Connection{
		ID: c.ID, Src: c.Src.String(), Dst: c.Dst.String(), Path: c.Path, Converter: c.Converter,
		Age: int(time.Since(c.Started).Seconds()), RX: c.Down, TX: c.Up, MPTCP: c.Conn.MPTCP, Subflows: []report.Subflow{},
	}
	for _, f := range subflows(c) {
		w, _ := p.WANByAddr(f.Local.Addr())
		r.Subflows = append(r.Subflows, report.Subflow{
			WAN: w.Name, Local: f.Local.String(), Remote: f.Remote.String(), RTT: float64(f.RTT.Microseconds()) / 1000,
			Backup: w.Role == config.RoleBackup, RX: f.BytesReceived, TX: f.BytesAcked,
		})
	}
	return r
}

// Explain is the answer of the method "explain".
func (d *Daemon) Explain(dest netip.AddrPort) (report.Explanation, error) {
	n := d.proxy.Network()
	if n == nil {
		return report.Explanation{}, fmt.Errorf("deciding for %v: no network yet", dest)
	}
	dec := n.Decide(dest)
	e := report.Explanation{Path: config.PathReject, Reason: dec.Reason, Subflows: []report.ExpectedSubflow{}}
	if len(dec.Attempts) == 0 {
		return e, nil
	}
	a := dec.Attempts[0]
	e.Path = a.Path
	for _, w := range n.WANs {
		f := report.ExpectedSubflow{WAN: w.Name, Family: "ipv4", Remote: a.Peer.String()}
		switch {
		case a.Peer.Addr().Is4() && w.IPv4.IsValid():
		case a.Peer.Addr().Is6() && w.IPv6.IsValid():
			f.Family = "ipv6"
		default:
			continue
		}
		e.Subflows = append(e.Subflows, f)
	}
	return e, nil
}
