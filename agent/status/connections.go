// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"slices"
	"strings"

	"braid/agent/config"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/report"
	"braid/agent/ubus"
)

// maxSubflows ends a page early: ubus carries no more than 1 MB.
const maxSubflows = 3000

// Connections is the answer of the method "connections"; wan selects those
// with a subflow there, host those whose source or destination is that address
// or begins like it. ubus.ErrNotFound if there is no such WAN.
func (v *View) Connections(limit, offset int, wan, host string) (report.Connections, error) {
	_, p := v.now()
	all := v.proxy.Connections()
	if wan != "" {
		if err := exists(p, wan); err != nil {
			return report.Connections{}, err
		}
		on := v.flows.on(p, wan)
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
			WAN: w.Name, Local: f.Local.String(), Remote: f.Remote.String(), RTT: report.Milliseconds(f.RTT),
			Backup: w.Role == config.RoleBackup || w.Held, RX: f.BytesReceived, TX: f.BytesAcked,
		})
	}
	return r
}
