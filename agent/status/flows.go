// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/transport/mptcp"
)

const (
	// flowsAge is how old the answer to where the subflows run may be. To find
	// out takes two system calls for each connection, and as much again to
	// collect the garbage: while they are thousands, and about as many as before,
	// it may be flowsRest times as old as it took, but not older than flowsOld.
	flowsAge  = time.Second
	flowsRest = 8000
	flowsOld  = time.Minute
	// flowsWanted is for how long after a question the answer to the next is
	// kept ready.
	flowsWanted = 5 * time.Second
)

// flows knows where the subflows of connections start.
type flows struct {
	proxy *proxy.Proxy
	wakeC chan struct{} // somebody asks

	mu     sync.Mutex
	at     time.Time
	took   time.Duration
	asked  time.Time
	locals map[uint64][]netip.Addr // by the connection's id; not changed any more
}

func newFlows(p *proxy.Proxy) *flows { return &flows{proxy: p, wakeC: make(chan struct{}, 1)} }

// run keeps the answer ready while somebody asks again and again, as those who
// look at a page or at braid watch do.
func (f *flows) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wakeC:
		}
		for f.wanted() {
			if !f.fresh(flowsAge / 4) {
				f.read()
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(flowsAge * 3 / 4):
			}
		}
	}
}

func (f *flows) wanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.asked) < flowsWanted
}

// fresh says whether the answer will do, now and for a while.
func (f *flows) fresh(while time.Duration) bool {
	open := f.proxy.Open()
	f.mu.Lock()
	defer f.mu.Unlock()
	age := time.Since(f.at) + while
	n := len(f.locals)
	return age < flowsAge || age < min(flowsRest*f.took, flowsOld) && max(open-n, n-open) <= n/8
}

// starts are the local addresses of each connection's subflows, not long ago.
func (f *flows) starts() map[uint64][]netip.Addr {
	f.mu.Lock()
	f.asked = time.Now()
	f.mu.Unlock()
	hint(f.wakeC)
	if !f.fresh(0) {
		return f.read()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.locals
}

func (f *flows) read() map[uint64][]netip.Addr {
	at := time.Now()
	locals := make(map[uint64][]netip.Addr)
	for _, c := range f.proxy.Connections() {
		locals[c.ID] = nil // so that it is known to have been asked
		for _, s := range subflows(c) {
			locals[c.ID] = append(locals[c.ID], s.Local.Addr())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.After(f.at) {
		f.at, f.locals = at, locals
		f.took = time.Since(at)
	}
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

func subflows(c proxy.Connection) []mptcp.Subflow {
	flows, err := c.Conn.Subflows()
	if err != nil {
		return nil // it has just been closed
	}
	return slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State == mptcp.StateSYNSent })
}

func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
