// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package guard looks after the MPTCP connections that a process sends bulk
// data on. It bounds what they hold unacknowledged to what their paths carry,
// because all that is queued on a path must be sent again when the path dies;
// and it gives up subflows that are dead, before the kernel would.
package guard

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/tick"
)

const (
	fastTick = 25 * time.Millisecond  // while any connection is busy and changes
	slowTick = 200 * time.Millisecond // while none is busy
	// easyTick is for connections that are as they were: waking up is most of what
	// a look costs. In between, one is looked at after an eighth of the time that it
	// has been so.
	easyTick = 100 * time.Millisecond
	ease     = 8
	// early is how much before its time something may be looked at: timers are late.
	early = fastTick / 2
	// dense is how many connections are looked at each fastTick. More of them
	// are looked at less often: the work stays the same, and so does what each
	// has to lose.
	dense = 50
	// bulk is how many bytes in a slow tick make a connection busy.
	bulk = 64 << 10
	// calm is how long a busy connection is looked at after its last bulk.
	calm = time.Second
)

// Guard guards the connections it is given while Run runs.
type Guard struct {
	Log       *journal.Log
	Destroyed atomic.Uint64 // subflows given up

	seen    []mptcp.Subflow // of the connection that is looked at
	unarmed bool            // this kernel destroys nothing

	ticker *tick.Ticker // while it runs

	mu     sync.Mutex
	conns  map[*Ward]struct{}
	last   time.Time // when there was one
	asleep bool      // until Add wakes it
}

// Ward is a guarded connection.
type Ward struct {
	conn *mptcp.Conn
	sent *atomic.Uint64 // bytes written to conn

	last    uint64    // sent, at the last slow tick
	next    time.Time // not looked at before
	changed time.Time // when much has last changed, or been in doubt
	until   time.Time // looked at closely until then
	flows   map[pair]*subflow
	buffer
}

// Add guards a connection as w, which is zero, until Remove; sent counts what is
// written to it. A connection that runs as plain TCP is left alone.
func (g *Guard) Add(w *Ward, c *mptcp.Conn, sent *atomic.Uint64) {
	if !c.MPTCP {
		return
	}
	w.conn, w.sent = c, sent
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		g.conns = make(map[*Ward]struct{})
	}
	g.conns[w] = struct{}{}
	if g.asleep {
		g.asleep = false
		g.ticker.Wake()
	}
}

// Remove ends what Add has begun.
func (g *Guard) Remove(w *Ward) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, w)
}

// rest sets the ticker: at rest nothing is to be woken for. It is at rest once there has
// been no connection for a while; where they are short, the next one comes soon.
func (g *Guard) rest(now time.Time, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) > 0 {
		g.last = now
	}
	if g.asleep = now.Sub(g.last) >= calm; g.asleep {
		next = 0
	}
	g.ticker.Set(next)
}

// Run guards until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	if err := mptcp.CanDestroy(); err != nil {
		g.unarmed = true
		g.Log.Info("dead subflows are left to the kernel and to who knows the lines", "reason", err)
	}
	ticker, err := tick.NewTicker(ctx)
	if err != nil {
		return err
	}
	defer ticker.Close()
	g.ticker = ticker
	next := slowTick
	var busy []*Ward
	now := time.Now()
	for slow := now; ; {
		g.rest(now, next)
		if err := ticker.Wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now = time.Now()
		if now.Sub(slow) >= slowTick-early {
			slow = now
			busy = g.busy(now, busy[:0])
		}
		fast := pace(len(busy))
		next = slowTick
		for _, w := range busy {
			if now.Before(w.next) {
				next = min(next, max(w.next.Sub(now), fast))
				continue
			}
			g.look(w, now)
			each := max(fast, min(now.Sub(w.changed)/ease, easyTick).Truncate(fastTick)) // setting the timer costs as much as a look
			w.next, next = now.Add(each-early), min(next, each)
		}
	}
}

// pace is the least time between two looks at each of the busy connections.
func pace(busy int) time.Duration {
	return min(max(fastTick, time.Duration(busy)*fastTick/dense), slowTick)
}

// busy lists the connections that carry bulk data.
func (g *Guard) busy(now time.Time, list []*Ward) []*Ward {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.conns {
		sent := w.sent.Load()
		if sent-w.last >= bulk {
			if now.After(w.until) {
				w.changed = now // it begins
			}
			w.until = now.Add(calm)
		}
		w.last = sent
		if now.Before(w.until) {
			list = append(list, w)
		} else if w.flows != nil {
			w.flows = nil // what was known of it is out of date when it returns
		}
	}
	return list
}

// look reads a connection's subflows and acts on what they show.
func (g *Guard) look(w *Ward, now time.Time) {
	flows, err := w.conn.AppendSubflows(g.seen[:0])
	g.seen = flows
	if err != nil {
		return // closed meanwhile
	}
	// Connecting and closing ones carry nothing.
	flows = slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State != mptcp.StateEstablished })
	for _, f := range w.dead(flows, now) {
		if g.unarmed {
			break
		}
		if err := mptcp.Destroy(f); err != nil {
			g.Log.Warn("giving up a subflow", "error", err)
			continue
		}
		g.Destroyed.Add(1)
		g.Log.Info("gave up a dead subflow", "local", f.Local, "remote", f.Remote, "rtt", f.RTT)
	}
	if len(flows) < 2 && w.set == 0 {
		return
	}
	in, err := w.conn.Info()
	if err != nil {
		return
	}
	if size, change := w.size(flows, in.InFlight(), now); change {
		if size > w.set*5/4 {
			w.changed = now
		}
		if err := w.conn.SetSendBuffer(size); err == nil {
			w.set = size
		}
	}
}
