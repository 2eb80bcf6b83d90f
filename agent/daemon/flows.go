// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/transport/mptcp"
)

// flowsAge is how old the answer to where the subflows run may be. To find out
// takes two system calls for each connection.
const flowsAge = time.Second

// flows knows where the subflows of connections start.
type flows struct {
	proxy *proxy.Proxy

	mu     sync.Mutex
	at     time.Time
	locals map[uint64][]netip.Addr // by the connection's id
}

// starts are the local addresses of each connection's subflows, at most
// flowsAge ago. The map is not changed any more.
func (f *flows) starts() map[uint64][]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) < flowsAge {
		return f.locals
	}
	f.locals = make(map[uint64][]netip.Addr)
	for _, c := range f.proxy.Connections() {
		for _, s := range subflows(c) {
			f.locals[c.ID] = append(f.locals[c.ID], s.Local.Addr())
		}
	}
	f.at = time.Now()
	return f.locals
}

// count counts the subflows on each WAN.
func (f *flows) count(p plan.Plan) map[string]int {
	n := make(map[string]int)
	wans := wansByAddr(p)
	for _, locals := range f.starts() {
		for _, a := range locals {
			n[wans[a]]++
		}
	}
	return n
}

// on says which connections have a subflow on a WAN.
func (f *flows) on(p plan.Plan, wan string) map[uint64]bool {
	found := make(map[uint64]bool)
	wans := wansByAddr(p)
	for id, locals := range f.starts() {
		for _, a := range locals {
			if wans[a] == wan {
				found[id] = true
			}
		}
	}
	return found
}

// wansByAddr names the WAN that has an address.
func wansByAddr(p plan.Plan) map[netip.Addr]string {
	names := make(map[netip.Addr]string)
	for _, w := range p.WANs {
		for _, a := range w.Addrs {
			if _, taken := names[a]; !taken {
				names[a] = w.Name
			}
		}
	}
	return names
}

func subflows(c proxy.Connection) []mptcp.Subflow {
	flows, err := c.Conn.Subflows()
	if err != nil {
		return nil // it has just been closed
	}
	return slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State == mptcp.StateSYNSent })
}
