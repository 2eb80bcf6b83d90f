// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"braid/agent/config"
	"braid/agent/extend"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/agent/ubus"
)

// maxSubflows ends a page early: ubus carries no more than 1 MB.
const maxSubflows = 3000

// extended is added to the id of a connection that is extended: it is none of the
// proxy's.
const extended = 1 << 32

// listed is a connection of those that may be asked for.
type listed struct {
	src, dst netip.AddrPort
	began    time.Time
	on       func(wan string) bool
	report   func() report.Connection
}

// Connections is the answer of the method "connections"; wan selects those
// with a subflow there, host those whose source or destination is that address
// or begins like it. ubus.ErrNotFound if there is no such WAN.
func (v *View) Connections(limit, offset int, wan, host string) (report.Connections, error) {
	_, p := v.now()
	all := append(v.carried(p, wan), v.extended(p)...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].began.Before(all[j].began) })
	if wan != "" {
		if err := exists(p, wan); err != nil {
			return report.Connections{}, err
		}
		all = slices.DeleteFunc(all, func(c listed) bool { return !c.on(wan) })
	}
	if host != "" {
		all = slices.DeleteFunc(all, func(c listed) bool {
			return !strings.HasPrefix(c.src.Addr().String(), host) && !strings.HasPrefix(c.dst.Addr().String(), host)
		})
	}
	out := report.Connections{Connections: []report.Connection{}, Total: len(all)}
	offset = min(offset, len(all))
	subflows := 0
	for _, c := range all[offset:min(offset+limit, len(all))] {
		if subflows >= maxSubflows {
			break
		}
		r := c.report()
		subflows += len(r.Subflows)
		out.Connections = append(out.Connections, r)
	}
	return out, nil
}

// carried are the connections that end here, for one who asks about a WAN if not
// empty.
func (v *View) carried(p plan.Plan, wan string) (all []listed) {
	var on map[uint64]bool
	if wan != "" {
		on = v.flows.on(p, wan)
	}
	for _, c := range v.proxy.Connections() {
		all = append(all, listed{c.Src, c.Dst, c.Started, func(string) bool { return on[c.ID] },
			func() report.Connection { return connection(p, c) }})
	}
	return all
}

// extended are those of LAN hosts that have been extended.
func (v *View) extended(p plan.Plan) (all []listed) {
	e := v.Extender.Load()
	if e == nil {
		return nil
	}
	for _, c := range e.Connections() {
		on := func(wan string) bool {
			return slices.ContainsFunc(c.Subflows, func(f extend.Subflow) bool { return wanByMark(p, f.Mark).Name == wan })
		}
		all = append(all, listed{c.Src, c.Dst, c.Began, on, func() report.Connection { return extension(p, c) }})
	}
	return all
}

func extension(p plan.Plan, c extend.Connection) report.Connection {
	r := report.Connection{ID: extended + c.ID, Src: c.Src.String(), Dst: c.Dst.String(), Path: config.PathExtend,
		Age: elapsed(c.Began), MPTCP: true, Subflows: []report.Subflow{}}
	for _, f := range c.Subflows {
		e, err := f.Ask()
		if err != nil {
			continue // it has just been closed
		}
		w := wanByMark(p, f.Mark)
		r.Subflows = append(r.Subflows, report.Subflow{WAN: w.Name, Local: e.Near.String(), Remote: e.Far.String(), RX: e.Down, TX: e.Up})
		r.RX, r.TX = r.RX+e.Down, r.TX+e.Up
	}
	return r
}

func wanByMark(p plan.Plan, mark uint32) plan.WAN {
	if i := slices.IndexFunc(p.WANs, func(w plan.WAN) bool { return w.Mark() == mark }); i >= 0 {
		return p.WANs[i]
	}
	return plan.WAN{}
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
			WAN: w.Name, Local: f.Local.String(), Remote: f.Remote.String(), RTT: report.Milliseconds(f.RTT),
			Backup: w.Role == config.RoleBackup || w.Held, RX: f.BytesReceived, TX: f.BytesAcked,
		})
	}
	return r
}
