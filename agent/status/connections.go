// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"braid/agent/config"
	"braid/agent/extend"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/agent/ubus"
	"braid/transport/mptcp"
)

// maxSubflows ends a page early: ubus carries no more than 1 MB.
const maxSubflows = 3000

// extendedID is added to the id of a connection that is extended: it is none of the
// proxy's.
const extendedID = 1 << 32

// Connections is the answer of the method "connections"; wan selects those
// with a subflow there, host those whose source or destination is that address
// or begins like it. ubus.ErrNotFound if there is no such WAN.
func (v *View) Connections(limit, offset int, wan, host string) (report.Connections, error) {
	_, p := v.now()
	if wan != "" {
		if err := exists(p, wan); err != nil {
			return report.Connections{}, err
		}
	}
	// Of thousands only those of the page become anything.
	var page []func() report.Connection
	total := 0
	asked := func(src, dst netip.AddrPort) bool { return begins(src.Addr(), host) || begins(dst.Addr(), host) }
	shown := func() bool {
		total++
		return total > offset && len(page) < limit
	}
	extended := v.extended()
	next := func() {
		c := extended[0]
		extended = extended[1:]
		on := wan == "" || slices.ContainsFunc(c.Subflows, func(f extend.Subflow) bool { return wanByMark(p, f.Mark).Name == wan })
		if asked(c.Src, c.Dst) && on && shown() {
			page = append(page, func() report.Connection { return extension(p, c) })
		}
	}
	var own []netip.Addr // of the WAN that is asked for
	for a, name := range wansByAddr(p) {
		if name == wan {
			own = append(own, a)
		}
	}
	on := func(starts []netip.Addr) bool {
		return wan == "" || slices.ContainsFunc(starts, func(a netip.Addr) bool { return slices.Contains(own, a) })
	}
	v.proxy.Each(func(c proxy.Connection) {
		for len(extended) > 0 && extended[0].Began.Before(c.Started) {
			next()
		}
		if asked(c.Src, c.Dst) && on(c.Starts) && shown() {
			c := c // of the others none is kept
			page = append(page, func() report.Connection { return connection(p, c) })
		}
	})
	for len(extended) > 0 {
		next()
	}
	out := report.Connections{Connections: []report.Connection{}, Total: total}
	subflows := 0
	for _, tell := range page {
		if subflows >= maxSubflows {
			break
		}
		c := tell()
		subflows += len(c.Subflows)
		out.Connections = append(out.Connections, c)
	}
	return out, nil
}

// begins says whether an address is written with that at its beginning.
func begins(a netip.Addr, with string) bool {
	var b [len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")]byte
	return bytes.HasPrefix(a.AppendTo(b[:0]), []byte(with))
}

// extended are those of LAN hosts that have been extended, oldest first.
func (v *View) extended() []extend.Connection {
	e := v.Extender.Load()
	if e == nil {
		return nil
	}
	return e.Connections()
}

func extension(p plan.Plan, c extend.Connection) report.Connection {
	r := report.Connection{ID: extendedID + c.ID, Src: c.Src.String(), Dst: c.Dst.String(), Path: config.PathExtend,
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

// subflows counts on each WAN those of what is carried.
func (v *View) subflows(p plan.Plan) map[string]int {
	n, wans := make(map[string]int), wansByAddr(p)
	for a, starting := range v.proxy.Starts() {
		n[wans[a]] += starting
	}
	return n
}

// wansByAddr names the WAN that has an address.
func wansByAddr(p plan.Plan) map[netip.Addr]string {
	names := make(map[netip.Addr]string)
	for _, starts := range []bool{true, false} {
		for _, w := range p.WANs {
			for _, l := range w.Legs {
				if l.Subflows && starts {
					names[l.Source] = w.Name
				}
				for _, a := range l.Addrs {
					if _, taken := names[a]; !taken && !starts {
						names[a] = w.Name
					}
				}
			}
		}
	}
	return names
}

func connection(p plan.Plan, c proxy.Connection) report.Connection {
	r := report.Connection{
		ID: c.ID, Src: c.Src.String(), Dst: c.Dst.String(), Path: c.Path, Converter: c.Converter,
		Age: elapsed(c.Started), RX: c.Down, TX: c.Up, MPTCP: c.Conn.MPTCP, Subflows: []report.Subflow{},
	}
	flows, err := c.Conn.Subflows()
	if err != nil {
		return r // it has just been closed
	}
	for _, f := range flows {
		if f.State == mptcp.StateSYNSent {
			continue
		}
		w, _ := p.WANByAddr(f.Local.Addr())
		r.Subflows = append(r.Subflows, report.Subflow{
			WAN: w.Name, Local: f.Local.String(), Remote: f.Remote.String(), RTT: report.Milliseconds(f.RTT),
			Backup: w.Role == config.RoleBackup || w.Held, RX: f.BytesReceived, TX: f.BytesAcked,
		})
	}
	return r
}
