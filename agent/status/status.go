// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/extend"
	"braid/agent/health"
	"braid/agent/history"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/quota"
	"braid/agent/report"
)

// View is what the agent has to tell. Make one with New.
type View struct {
	// Extended counts the connections of LAN hosts that were extended.
	Extended atomic.Uint64
	// Extender knows those that are open; nil: connections are not extended.
	Extender atomic.Pointer[extend.Extender]

	version    string
	start      time.Time
	proxy      *proxy.Proxy
	health     *health.Monitor
	converters *converter.Monitor
	meter      *load.Meter
	modems     *modem.Watcher
	events     *history.Events
	kernel     kernel

	mu         sync.Mutex
	config     config.Config
	plan       plan.Plan
	problems   config.Problems
	wans       map[string]condition
	conditions map[string]condition // of converters
	networks   map[string]string    // of modems: how each stands with its own, by WAN
	quotas     *quota.Book
}

// New makes a view of an agent's parts, before its loop has seen anything.
func New(version string, p *proxy.Proxy, h *health.Monitor, c *converter.Monitor, m *load.Meter, modems *modem.Watcher, events *history.Events) *View {
	return &View{version: version, start: time.Now(), proxy: p, health: h, converters: c, meter: m, modems: modems, events: events}
}

// now is what the loop last saw.
func (v *View) now() (config.Config, plan.Plan) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.config, v.plan
}

// Problems are those of configuration and plan.
func (v *View) Problems() []report.Problem {
	v.mu.Lock()
	defer v.mu.Unlock()
	return report.Problems(v.problems)
}

// Names are those of the WANs.
func (v *View) Names() (names []string) {
	_, p := v.now()
	for _, w := range p.WANs {
		names = append(names, w.Name)
	}
	return names
}

// Has is nil if there is a WAN of that name, and wraps os.ErrNotExist if not.
func (v *View) Has(wan string) error {
	_, p := v.now()
	return exists(p, wan)
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
	case w.Idle:
		return wanUp, w.Reason
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

// Show takes in what the loop has made, and returns what it is to tell of WANs
// and converters whose state has changed.
func (v *View) Show(c config.Config, p plan.Plan, problems config.Problems) (told []report.Told) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.config, v.plan, v.problems = c, p, problems
	wans := make(map[string]condition, len(p.WANs))
	for _, w := range p.WANs {
		old := v.wans[w.Name]
		now := old.become(judge(w))
		if wans[w.Name] = now; now.state != old.state {
			told = append(told, report.WANEvent{WAN: w.Name, From: cmp.Or(old.state, wanDown), To: now.state, Reason: now.reason})
		}
	}
	known := v.converters.Status()
	conditions := make(map[string]condition, len(c.Converters))
	for _, conv := range c.Converters {
		old := v.conditions[conv.Name]
		now := old.become(v.converterState(conv, known).String(), "")
		if conditions[conv.Name] = now; now.state != old.state {
			told = append(told, report.ConverterEvent{Name: conv.Name, From: cmp.Or(old.state, "down"), To: now.state})
		}
	}
	v.wans, v.conditions = wans, conditions
	return append(told, v.tellModemsLocked(p)...)
}

// converterState is what is known of a converter. One on the path is asked by
// nobody: it is up once it has been seen to do something.
func (v *View) converterState(c config.Converter, known map[string]converter.Status) path.ConverterState {
	if c.OnPath != "" && v.proxy.Memory.Seen(c.Name) {
		return path.ConverterUp
	}
	return known[c.Name].State
}

// Status is the answer of the method "status".
func (v *View) Status() report.Status {
	wans := v.WANs().WANs
	v.mu.Lock()
	c, p, problems, states := v.config, v.plan, v.problems, v.conditions
	v.mu.Unlock()
	st := v.proxy.Stats()
	failing := v.proxy.Failing()
	if failing != nil {
		problems = append(slices.Clip(problems), config.Problem{Message: "no connection is carried: " + failing.Error()})
	}
	s := report.Status{
		Version:    v.version,
		Uptime:     int(time.Since(v.start).Seconds()),
		State:      overall(c, wans, states, failing),
		Problems:   report.Problems(problems),
		Kernel:     v.kernel.features(),
		Converters: v.reportConverters(c, states),
		WANs:       wans,
	}
	if p.Firewall != nil {
		s.Firewall = string(p.Filter)
	}
	open, carried := v.proxy.Carried()
	s.Connections = report.Totals{Open: open, Total: st.Total.Load(), Convert: st.Convert.Load(),
		Direct: st.Direct.Load(), Extended: v.Extended.Load(), TCPFallback: st.TCPFallback.Load(), Failed: st.Failed.Load()}
	s.Bytes = report.Bytes{RX: carried.Down, TX: carried.Up, Direct: carried.Direct}
	s.LastEvent = v.events.Last()
	return s
}

func overall(c config.Config, wans []report.WAN, converters map[string]condition, failing error) report.State {
	if !c.Globals.Enabled || len(wans) == 0 {
		return report.StateDisabled
	}
	count := make(map[string]int)
	for _, w := range wans {
		count[w.State]++
	}
	answers := !slices.ContainsFunc(c.Converters, func(conv config.Converter) bool { return conv.OnPath == "" })
	for _, s := range converters {
		answers = answers || s.state == path.ConverterUp.String()
	}
	switch {
	case count[wanUp]+count[wanDegraded] == 0:
		return report.StateDown
	case count[wanDown]+count[wanDegraded] > 0, !answers, failing != nil:
		return report.StateDegraded
	}
	return report.StateOK
}

// WANs is the answer of the method "wans".
func (v *View) WANs() report.WANs {
	v.mu.Lock()
	c, p, states := v.config, v.plan, v.wans
	v.mu.Unlock()
	known := v.health.Health()
	carried := v.meter.Rates()
	counters, _ := v.meter.Counters()
	subflows := v.subflows(p)
	modems := v.modems.Facts()
	guess := make(map[string]config.Kind)
	for _, w := range p.WANs {
		guess[w.Name] = w.Kind
	}
	roles := c.Roles(guess)
	out := report.WANs{WANs: []report.WAN{}}
	for i, w := range p.WANs {
		s, h := states[w.Name], Measured(w, known)
		r := report.WAN{
			Name: w.Name, Device: w.Device, Kind: w.Kind, Role: roles[w.Name], EffectiveRole: w.Role,
			State: s.state, Reason: s.reason, Since: elapsed(s.since),
			Addresses: append([]netip.Addr{}, w.Addrs()...), IPv4: ipv4Kind(w), IPv6: hasIPv6(w),
			NAT64: nat64(w), Legs: legs(w, p.Network), RTT: report.Milliseconds(h.RTT), Jitter: report.Milliseconds(h.Jitter), Loss: h.Loss,
			RXRate: int64(carried[w.Name].RX), TXRate: int64(carried[w.Name].TX),
			RXBytes: counters[w.Device].RX, TXBytes: counters[w.Device].TX, Subflows: subflows[w.Name],
			Quota: v.quota(c.WANs[i]), Cellular: cellular(modems[w.Name]),
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
func legs(w plan.WAN, n *path.Network) []report.Leg {
	all := []report.Leg{}
	for _, l := range w.Legs {
		r := report.Leg{Family: family(l.IPv6), Device: l.Device, Origin: string(l.Origin), MTU: l.MTU, State: l.Verdict.String(), Reason: l.Reason,
			Converters: legConverters(w.Name, l, n)}
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

// legConverters are the converters as they are over a leg: of several addresses
// of one the best.
func legConverters(wan string, l plan.Leg, n *path.Network) []report.LegConverter {
	all := []report.LegConverter{}
	if n == nil {
		return all
	}
	for _, c := range n.Converters {
		i := slices.IndexFunc(c.Ways, func(w path.Way) bool { return w.WAN == wan && w.Source == l.Source })
		if i >= 0 {
			a := c.Answers[c.Ways[i]]
			all = append(all, report.LegConverter{Name: c.Name, State: a.State.String(), RTT: report.Milliseconds(a.RTT)})
		}
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

// Measured is the health of the leg that connections start on.
func Measured(w plan.WAN, known map[health.Leg]health.Health) health.Health {
	l, ok := w.Starting(false)
	if v6, also := w.Starting(true); !ok || also && !l.Usable() && v6.Usable() {
		l = v6
	}
	return known[w.Health(l)]
}

// reportConverters tells of the configured ones, an entry for each address; one
// on the path has none.
func (v *View) reportConverters(c config.Config, states map[string]condition) []report.Converter {
	known := v.converters.Status()
	all := []report.Converter{}
	for _, conv := range c.Converters {
		s := states[conv.Name]
		if conv.OnPath != "" {
			all = append(all, report.Converter{Name: conv.Name, WAN: conv.OnPath, State: s.state, Since: elapsed(s.since)})
		}
		for _, a := range conv.Addresses {
			state, rtt, since := s.state, known[conv.Name].RTT, s.since
			// What nobody can ask, for want of the family, is as the others are, and a name is
			// all of its addresses.
			if of, ok := known[conv.Name].Addresses[netip.AddrPortFrom(a.Addr, conv.Port)]; ok {
				state, rtt, since = of.State.String(), of.RTT, of.Since
			}
			all = append(all, report.Converter{
				Name: conv.Name, Address: a.String(), Port: conv.Port,
				State: state, RTT: report.Milliseconds(rtt), Since: elapsed(since),
				IPv4: v.reaches(conv.Name, known[conv.Name].IPv4, false),
				IPv6: v.reaches(conv.Name, known[conv.Name].IPv6, true),
			})
		}
	}
	return all
}

// reaches is whether a converter reaches servers of a family: what it says of
// itself, unless connections have shown the contrary or it says nothing.
func (v *View) reaches(converter string, says path.Tri, ipv6 bool) *bool {
	known := v.proxy.Memory.Reaches(converter, ipv6)
	if known != path.No {
		known = cmp.Or(says, known)
	}
	return yesNo(known)
}
