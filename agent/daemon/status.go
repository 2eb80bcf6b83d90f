// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"braid/agent/config"
	"braid/agent/health"
	"braid/agent/netstate"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/agent/ubus"
	"braid/transport/mptcp"
)

// state is what the loop last saw, for whoever asks.
type state struct {
	mu         sync.Mutex
	config     config.Config
	plan       plan.Plan
	problems   config.Problems
	wans       map[string]condition
	converters map[string]condition
}

func (s *state) set(c config.Config, p plan.Plan, problems config.Problems) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.plan, s.problems = c, p, problems
}

// The states of a WAN.
const (
	wanUp       = "up"
	wanDegraded = "degraded"
	wanDown     = "down"
	wanOff      = "off"
)

// judge is a WAN's state and why.
func judge(w plan.WAN) (state, reason string) {
	switch {
	case w.Role == config.RoleOff:
		return wanOff, w.Reason
	case !w.Usable:
		return wanDown, w.Reason
	}
	for _, l := range w.Legs {
		if l.Source.IsValid() && l.Verdict != health.Up {
			return wanDegraded, family(l.IPv6) + ": " + l.Reason
		}
	}
	return wanUp, w.Reason
}

func family(v6 bool) string {
	if v6 {
		return "ipv6"
	}
	return "ipv4"
}

// announce tells the world of WANs and converters whose state has changed.
func (l *loop) announce(p plan.Plan) {
	l.state.mu.Lock()
	oldWANs, oldConverters := l.state.wans, l.state.converters
	wans := make(map[string]condition, len(p.WANs))
	for _, w := range p.WANs {
		wans[w.Name] = oldWANs[w.Name].become(judge(w))
	}
	converters := l.conditions(l.config, oldConverters)
	l.state.wans, l.state.converters = wans, converters
	l.state.mu.Unlock()
	for _, w := range p.WANs {
		now, from := wans[w.Name], cmp.Or(oldWANs[w.Name].state, wanDown)
		if now.state != oldWANs[w.Name].state {
			l.log.Info("wan", "name", w.Name, "from", from, "to", now.state, "reason", now.reason)
			l.send("braid.wan", report.WANEvent{WAN: w.Name, From: from, To: now.state, Reason: now.reason})
		}
	}
	for _, c := range l.config.Converters {
		now, from := converters[c.Name], cmp.Or(oldConverters[c.Name].state, "down")
		if now.state != oldConverters[c.Name].state {
			l.log.Info("converter", "name", c.Name, "from", from, "to", now.state)
			l.send("braid.converter", report.ConverterEvent{Name: c.Name, From: from, To: now.state})
		}
	}
}

// Status is the answer of the method "status".
func (d *Daemon) Status() report.Status {
	wans := d.WANs().WANs
	d.state.mu.Lock()
	c, p, problems, states := d.state.config, d.state.plan, d.state.problems, d.state.converters
	d.state.mu.Unlock()
	st := d.proxy.Stats()
	s := report.Status{
		Version:    d.Version,
		Uptime:     int(time.Since(d.start).Seconds()),
		State:      overall(c, wans, states),
		Problems:   report.Problems(problems),
		Kernel:     d.kernel(),
		Converters: d.reportConverters(c, states),
		WANs:       wans,
	}
	if p.Firewall != nil {
		s.Firewall = string(p.Filter)
	}
	open, carried := d.proxy.Carried()
	s.Connections = report.Totals{Open: open, Total: st.Total.Load(), Convert: st.Convert.Load(),
		Direct: st.Direct.Load(), TCPFallback: st.TCPFallback.Load(), Failed: st.Failed.Load()}
	s.Bytes = report.Bytes{RX: carried.Down, TX: carried.Up, Direct: carried.Direct}
	s.LastEvent = d.events.Last()
	return s
}

func (d *Daemon) kernel() report.Kernel {
	f := mptcp.Features()
	return report.Kernel{Release: f.Release, MPTCP: f.MPTCP, TFO: f.FastOpen, TProxy: true}
}

func overall(c config.Config, wans []report.WAN, converters map[string]condition) report.State {
	if !c.Globals.Enabled || len(wans) == 0 {
		return report.StateDisabled
	}
	count := make(map[string]int)
	for _, w := range wans {
		count[w.State]++
	}
	answers := len(converters) == 0
	for _, s := range converters {
		answers = answers || s.state == path.ConverterUp.String()
	}
	switch {
	case count[wanUp]+count[wanDegraded] == 0:
		return report.StateDown
	case count[wanDown]+count[wanDegraded] > 0, !answers:
		return report.StateDegraded
	}
	return report.StateOK
}

// WANs is the answer of the method "wans".
func (d *Daemon) WANs() report.WANs {
	d.state.mu.Lock()
	c, p, states := d.state.config, d.state.plan, d.state.wans
	d.state.mu.Unlock()
	known := d.health.Health()
	d.balance.mu.Lock()
	carried := d.balance.rates
	d.balance.mu.Unlock()
	subflows := d.flows.count(p)
	counters := netstate.Counters()
	guess := make(map[string]config.Kind)
	for _, w := range p.WANs {
		guess[w.Name] = w.Kind
	}
	roles := c.Roles(guess)
	out := report.WANs{WANs: []report.WAN{}}
	for i, w := range p.WANs {
		s, h := states[w.Name], measured(w, known)
		r := report.WAN{
			Name: w.Name, Device: w.Device, Kind: w.Kind, Role: roles[w.Name], EffectiveRole: w.Role,
			State: s.state, Reason: s.reason, Since: elapsed(s.since),
			Addresses: append([]netip.Addr{}, w.Addrs()...), IPv4: ipv4Kind(w), IPv6: hasIPv6(w),
			NAT64: nat64(w), Legs: legs(w), RTT: milliseconds(h.RTT), Jitter: milliseconds(h.Jitter), Loss: h.Loss,
			RXRate: int64(carried[w.Name].rx), TXRate: int64(carried[w.Name].tx),
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

// ipv4Kind is what kind of IPv4 a WAN has.
func ipv4Kind(w plan.WAN) string {
	l, _ := w.Starting(false)
	return report.IPv4Kind(l.Source)
}

func hasIPv6(w plan.WAN) bool {
	return slices.ContainsFunc(w.Legs, func(l plan.Leg) bool { return l.IPv6 && l.Source.IsValid() })
}

// legs are those of a WAN as they are reported.
func legs(w plan.WAN) []report.Leg {
	all := []report.Leg{}
	for _, l := range w.Legs {
		r := report.Leg{Family: family(l.IPv6), Device: l.Device, Origin: string(l.Origin), State: l.Verdict.String(), Reason: l.Reason,
			Converters: []report.LegConverter{}}
		if w.Role == config.RoleOff {
			r.State, r.Reason = wanOff, w.Reason
		}
		if l.Source.IsValid() {
			r.Source = l.Source.String()
		}
		if l.Gateway.IsValid() {
			r.Gateway = l.Gateway.String()
		}
		all = append(all, r)
	}
	return all
}

// nat64 is the prefix of the network's NAT64 that is in use, or nothing.
func nat64(w plan.WAN) string {
	for _, l := range w.Legs {
		if l.CLAT.Prefix.IsValid() {
			return l.CLAT.Prefix.String()
		}
	}
	return ""
}

// measured is the health of the leg that connections start on.
func measured(w plan.WAN, known map[health.Leg]health.Health) health.Health {
	l, ok := w.Starting(false)
	if v6, also := w.Starting(true); !ok || also && !l.Usable() && v6.Usable() {
		l = v6
	}
	return known[w.Health(l)]
}

// Connections is the answer of the method "connections"; wan selects those
// with a subflow there, host those whose source or destination is that address
// or begins like it. ubus.ErrNotFound if there is no such WAN.
func (d *Daemon) Connections(limit, offset int, wan, host string) (report.Connections, error) {
	d.state.mu.Lock()
	p := d.state.plan
	d.state.mu.Unlock()
	all := d.proxy.Connections()
	if wan != "" {
		if err := exists(p, wan); err != nil {
			return report.Connections{}, err
		}
		on := d.flows.on(p, wan)
		all = slices.DeleteFunc(all, func(c proxy.Connection) bool { return !on[c.ID] })
	}
	if host != "" {
		all = slices.DeleteFunc(all, func(c proxy.Connection) bool {
			return !strings.HasPrefix(c.Src.Addr().String(), host) && !strings.HasPrefix(c.Dst.Addr().String(), host)
		})
	}
	out := report.Connections{Connections: []report.Connection{}, Total: len(all)}
	offset = min(offset, len(all))
	subflows := 0
	for _, c := range all[offset:min(offset+limit, len(all))] {
		if subflows >= maxSubflows {
			break
		}
		r := connection(p, c)
		subflows += len(r.Subflows)
		out.Connections = append(out.Connections, r)
	}
	return out, nil
}

func exists(p plan.Plan, wan string) error {
	if !slices.ContainsFunc(p.WANs, func(w plan.WAN) bool { return w.Name == wan }) {
		return fmt.Errorf("WAN %q: %w", wan, ubus.ErrNotFound)
	}
	return nil
}

func connection(p plan.Plan, c proxy.Connection) report.Connection {
	r := report.Connection{
		ID: c.ID, Src: c.Src.String(), Dst: c.Dst.String(), Path: c.Path, Converter: c.Converter,
		Age: elapsed(c.Started), RX: c.Down, TX: c.Up, MPTCP: c.Conn.MPTCP, Subflows: []report.Subflow{},
	}
	for _, f := range subflows(c) {
		w, _ := p.WANByAddr(f.Local.Addr())
		r.Subflows = append(r.Subflows, report.Subflow{
			WAN: w.Name, Local: f.Local.String(), Remote: f.Remote.String(), RTT: milliseconds(f.RTT),
			Backup: w.Role == config.RoleBackup || w.Held, RX: f.BytesReceived, TX: f.BytesAcked,
		})
	}
	return r
}

// passes says why something is not intercepted, nothing if it is.
func passes(p plan.Plan, dest netip.Addr, proto config.Proto) string {
	switch {
	case proto != config.ProtoTCP:
		// All else is forwarded.
		return "only TCP is intercepted"
	case p.Firewall == nil:
		return "nothing is intercepted now"
	case slices.ContainsFunc(p.Firewall.LAN, func(lan netip.Prefix) bool { return lan.Contains(dest) }):
		return "the destination is in the LAN"
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
