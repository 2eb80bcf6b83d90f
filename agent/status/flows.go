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
	// out takes a system call for each connection: while they are thousands it
	// may be flowsRest times as old as it took, but not older than flowsOld or,
	// where their number has changed, flowsMoved.
	flowsAge   = time.Second
	flowsRest  = 4000
	flowsOld   = time.Minute
	flowsMoved = 4 * time.Second
	// flowsWanted is for how long after a question the answer to the next is
	// kept ready.
	flowsWanted = 5 * time.Second
)

// flows knows where the subflows of connections start.
type flows struct {
	proxy *proxy.Proxy
	wakeC chan struct{} // somebody asks

	mu    sync.Mutex
	at    time.Time
	open  int // connections there were
	took  time.Duration
	asked time.Time
	last  starts // not changed any more
}

// starts are where the subflows of connections start: those of ids[i] are
// locals[ends[i-1]:ends[i]]. Thousands are kept without a map to collect.
type starts struct {
	ids    []uint64
	ends   []int
	locals []netip.Addr
}

// each calls do for each subflow.
func (s starts) each(do func(id uint64, local netip.Addr)) {
	from := 0
	for i, id := range s.ids {
		for _, a := range s.locals[from:s.ends[i]] {
			do(id, a)
		}
		from = s.ends[i]
	}
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
	limit := min(flowsRest*f.took, flowsOld)
	if open != f.open {
		limit = min(limit, flowsMoved)
	}
	return time.Since(f.at)+while < max(flowsAge, limit)
}

// latest are the starts not long ago.
func (f *flows) latest() starts {
	f.mu.Lock()
	f.asked = time.Now()
	f.mu.Unlock()
	hint(f.wakeC)
	if !f.fresh(0) {
		return f.read()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *flows) read() starts {
	at, open := time.Now(), f.proxy.Open()
	f.mu.Lock()
	had := f.last
	f.mu.Unlock()
	now := starts{
		ids: make([]uint64, 0, len(had.ids)+1), ends: make([]int, 0, len(had.ids)+1), locals: make([]netip.Addr, 0, len(had.locals)+1),
	}
	f.proxy.EachFar(func(id uint64, far *mptcp.Conn) {
		locals, err := far.AppendLocals(now.locals)
		if err != nil {
			return // it has just been closed
		}
		now.locals = locals
		now.ids, now.ends = append(now.ids, id), append(now.ends, len(locals))
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.After(f.at) {
		f.at, f.last, f.open = at, now, open
		f.took = time.Since(at)
	}
	return f.last
}

// count counts the subflows on each WAN.
func (f *flows) count(p plan.Plan) map[string]int {
	n := make(map[string]int)
	wans := wansByAddr(p)
	f.latest().each(func(_ uint64, a netip.Addr) { n[wans[a]]++ })
	return n
}

// on says which connections have a subflow on a WAN.
func (f *flows) on(p plan.Plan, wan string) map[uint64]bool {
	found := make(map[uint64]bool)
	wans := wansByAddr(p)
	f.latest().each(func(id uint64, a netip.Addr) {
		if wans[a] == wan {
			found[id] = true
		}
	})
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
