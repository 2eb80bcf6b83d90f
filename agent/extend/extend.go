// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package extend adds WANs to the connections of LAN hosts that speak MPTCP
// themselves. It ends nothing: a host is told, in its server's name, of an address
// of this one's with a port that stands for the server by way of another WAN,
// and the packet filter translates what the host opens there.
package extend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/plan"
	"braid/onpath/conntrack"
	"braid/onpath/lend"
	"braid/onpath/lender"
	"braid/onpath/nft"
	"braid/transport/journal"
)

const (
	// size is how many connections are known at once.
	size = 4096
	// look is how often they are looked at for what they lack.
	look = time.Second
	// A connection that has lost a subflow, or has not opened one, is told again
	// after retryLeast, and twice as long each time up to retryMost; but one that
	// has never had one not more than retries times. A kernel that hears of an
	// address before it has had the server's first DSS says so, and does not join
	// (6.18, __mptcp_subflow_connect).
	retryLeast = time.Second
	retryMost  = 10 * time.Minute
	retries    = 3
	// idBase and a WAN's index are the id by which a host knows an address. The
	// server's own, which its kernel numbers from 1, are not disturbed by it.
	idBase = 200
	// sweep is after how many looks connection tracking has been asked for each
	// connection, of which no end was seen.
	sweep = 10
)

// Extender extends connections. Make one with Open.
type Extender struct {
	log    *journal.Log
	file   string
	maps   *nft.Elements
	lender *lender.Lender
	total  *atomic.Uint64

	// Under the lender's lock.
	known   map[*lend.Connection]*connection
	ports   ports
	last    uint64 // id of a connection
	changed bool   // since the file was written

	notBefore time.Time // the file is written again

	mu   sync.Mutex
	plan plan.Extend
	back map[uint32]bool // marks of WANs that have come since the last look
}

// connection is what is known of one beside its keys.
type connection struct {
	_        [0]func() // nobody compares it
	id       uint64
	began    time.Time
	first    uint32 // mark of the WAN of its first subflow
	extended bool
	since    time.Time // it has had the last subflow that was added
	retry    time.Time // not before
	wait     time.Duration
	tries    int // that were in vain
}

// Open begins to extend connections by rules that the packet filter has. It
// counts those that are extended in total, and keeps in a file what the next
// one needs to go on with them.
func Open(log *journal.Log, file string, total *atomic.Uint64) (e *Extender, err error) {
	e = &Extender{log: log, file: file, total: total, known: make(map[*lend.Connection]*connection)}
	if e.maps, err = nft.OpenElements(plan.ExtendTable); err != nil {
		return nil, err
	}
	e.lender, err = lender.Open(lender.Settings{
		Table: plan.ExtendTable, Name: plan.ExtendRules, Group: plan.ExtendGroup, Mark: plan.MarkLAN, Size: size,
		Offer: e.offer, Event: e.event,
	})
	if err != nil {
		return nil, errors.Join(err, e.maps.Close())
	}
	return e, nil
}

// Run extends connections until ctx ends. What is open then goes on.
func (e *Extender) Run(ctx context.Context) error {
	// Ports whose meaning an earlier agent knew. What has joined by them is in
	// connection tracking.
	for _, family := range []string{"ip", "ip6"} {
		for _, name := range []string{plan.ExtendTo, plan.ExtendBy} {
			if _, err := nft.Run(ctx, fmt.Sprintf("flush map %s %s%s\n", plan.ExtendTable, name, family), "-f", "-"); err != nil {
				return errors.Join(err, e.close())
			}
		}
	}
	if err := e.restore(); err != nil {
		e.log.Warn("reading which connections are open", "file", e.file, "error", err)
	}
	looking, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(look)
		defer ticker.Stop()
		for {
			select {
			case <-looking.Done():
				return
			case now := <-ticker.C:
				e.look(now)
				e.lender.Sweep(sweep, e.ask)
				e.saveNow(now)
			}
		}
	})
	stop := context.AfterFunc(ctx, func() { e.lender.Close() })
	err := e.lender.Serve()
	if stop() {
		err = errors.Join(err, e.lender.Close())
	}
	cancel()
	running.Wait()
	return errors.Join(err, e.save(), e.maps.Close())
}

// isOpen says whether connection tracking knows a flow, as it does each that goes
// over a WAN. One that was added, and that it knows no longer, is closed; one of which
// it has not seen the SYN go out comes again with the next.
func (e *Extender) isOpen(f lend.Flow, established bool) bool {
	entry, err := conntrack.Find(f.Client, f.Server)
	gone := errors.Is(err, os.ErrNotExist)
	if established && isPort(f.Server.Port()) && gone {
		e.shut(f)
	}
	return !gone && !entry.Ended
}

func (e *Extender) ask(c *lend.Connection, f lend.Flow) lend.Knowledge {
	if e.isOpen(f, c.Established(f)) {
		return lend.Open
	}
	return lend.Ended
}

// shut has a host reset a subflow that is not translated any more. By itself it
// would only notice when it sends something, and as long as it has the subflow it
// does not open another one to the address.
func (e *Extender) shut(f lend.Flow) {
	if err := e.lender.Poke(f); err != nil {
		e.log.Debug("not shut", "src", f.Client, "dst", f.Server, "error", err)
	}
}

func (e *Extender) close() error { return errors.Join(e.lender.Close(), e.maps.Close()) }

// Set says which WANs connections are to have from now on.
func (e *Extender) Set(p plan.Extend) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range p.WANs {
		if !slices.Contains(e.plan.WANs, w) {
			if e.back == nil {
				e.back = make(map[uint32]bool)
			}
			e.back[w.Mark] = true
		}
	}
	e.plan = p
}

// wanted are the marks of WANs that carry a family, and the address by which
// this host is known to a client.
func (e *Extender) wanted(client netip.Addr) (marks []uint32, at netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.plan.Addrs {
		if p.Addr().Is6() == client.Is6() && (!at.IsValid() || p.Contains(client)) {
			at = p.Addr()
		}
	}
	for _, w := range e.plan.WANs {
		if client.Is6() && w.IPv6 || client.Is4() && w.IPv4 {
			marks = append(marks, w.Mark)
		}
	}
	return marks, at
}

// offer is what to announce to a new connection's host.
func (e *Extender) offer(c *lend.Connection) (offers []lend.Address) {
	entry, err := conntrack.Find(c.First.Client, c.First.Server)
	first := entry.Mark & plan.MarkWAN
	if err != nil || first == 0 {
		e.log.Debug("not extended", "src", c.First.Client, "dst", c.First.Server, "mark", first, "error", err)
		return nil // it goes by none of ours, or has ended
	}
	now := time.Now()
	e.know(c, first, now)
	return e.lead(c, e.lacking(now, c, []uint32{first}))
}

func (e *Extender) know(c *lend.Connection, first uint32, began time.Time) *connection {
	e.last++
	k := &connection{id: e.last, began: began, first: first}
	e.known[c], e.changed = k, true
	return k
}

// lacking are the addresses of the WANs which a connection has no subflow by.
func (e *Extender) lacking(now time.Time, c *lend.Connection, has []uint32) (offers []lend.Address) {
	marks, at := e.wanted(c.First.Client.Addr())
	if !at.IsValid() {
		return nil
	}
	for _, m := range marks {
		if slices.Contains(has, m) {
			continue
		}
		if port, ok := e.port(now, far{c.First.Server, m}); ok {
			offers = append(offers, lend.Address{ID: id(m), Addr: netip.AddrPortFrom(at, port)})
		}
	}
	return offers
}

// id is by which a host knows the address for a WAN.
func id(mark uint32) uint8 { return uint8(idBase + mark/unit) }

// mark is that of the WAN which an address is for.
func mark(id uint8) uint32 { return uint32(id-idBase) * unit }

// unit is the mark of the WAN with index 1.
const unit = plan.MarkWAN & -plan.MarkWAN

// port is the one that stands for a server by way of a WAN; there may be none.
func (e *Extender) port(now time.Time, f far) (uint16, bool) {
	port, before, fresh, ok := e.ports.get(now, f)
	if fresh && before.server.IsValid() {
		for _, name := range []string{plan.ExtendBy, plan.ExtendTo} {
			if err := e.maps.Delete(name+family(before.server), key(port)); err != nil {
				e.log.Debug("not taken back", "port", port, "error", err)
			}
		}
	}
	return port, ok
}

// lead has the packet filter know what a port stands for that is going to be
// announced. It may have forgotten: others flush all of its tables.
func (e *Extender) lead(c *lend.Connection, offers []lend.Address) []lend.Address {
	return slices.DeleteFunc(offers, func(a lend.Address) bool {
		family := family(c.First.Server)
		err := errors.Join(
			e.maps.Map(plan.ExtendTo+family, key(a.Addr.Port()), nft.Key(c.First.Server)),
			e.maps.Map(plan.ExtendBy+family, key(a.Addr.Port()), binary.NativeEndian.AppendUint32(nil, mark(a.ID))))
		if err != nil {
			e.log.Debug("not extended", "src", c.First.Client, "dst", c.First.Server, "error", err)
		}
		return err != nil
	})
}

func key(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

func family(a netip.AddrPort) string {
	if a.Addr().Is6() {
		return "ip6"
	}
	return "ip"
}

// event counts the connections that have been extended.
func (e *Extender) event(s lend.Seen) {
	k := e.known[s.Connection]
	if k == nil {
		return
	}
	now := time.Now()
	switch s.What {
	case lend.Established, lend.Left, lend.Closed:
		e.changed = true
	}
	switch s.What {
	case lend.Established:
		if _, ours := e.added(now, s.Connection, s.Flow); !ours {
			break
		}
		k.since = now
		if !k.extended {
			k.extended = true
			e.total.Add(1)
			e.log.Debug("extended", "src", s.Connection.First.Client, "dst", s.Connection.First.Server)
		}
	case lend.Left:
		if k.extended && now.Sub(k.since) > k.wait { // it was of use
			k.wait = 0
		}
		k.retry = now.Add(max(k.wait, retryLeast))
	case lend.Closed:
		delete(e.known, s.Connection)
	}
}

// look has connections told of WANs that they lack, and takes their subflows off
// those that they are not to have.
func (e *Extender) look(now time.Time) {
	e.mu.Lock()
	back := e.back
	e.back = nil
	e.mu.Unlock()
	e.lender.Again(func(c *lend.Connection) (again []lend.Address) {
		k := e.known[c]
		if k == nil {
			return nil
		}
		marks, _ := e.wanted(c.First.Client.Addr())
		has := e.has(now, c, k, marks)
		due := !now.Before(k.retry) && (k.extended || k.tries < retries)
		for _, a := range e.lacking(now, c, has) {
			if back[mark(a.ID)] || due && !k.retry.IsZero() {
				again = append(again, a)
			}
		}
		switch {
		case len(again) > 0:
			if !slices.ContainsFunc(again, func(a lend.Address) bool { return c.Awaits(a.ID) }) {
				k.tries++
			}
			k.wait = min(max(2*k.wait, retryLeast), retryMost)
			k.retry = now.Add(k.wait)
		case k.retry.IsZero():
			k.retry = now.Add(retryLeast)
		}
		return e.lead(c, again)
	})
	e.lender.Do(func(t *lend.Table) { // of too many the oldest are forgotten
		alive := make(map[*lend.Connection]*connection, len(e.known))
		for c := range t.All() {
			if k := e.known[c]; k != nil {
				alive[c] = k
			}
		}
		e.known = alive
	})
}

// added says what a subflow goes to if it is one that was added here.
func (e *Extender) added(now time.Time, c *lend.Connection, f lend.Flow) (far, bool) {
	if f.Server.Addr() == c.First.Server.Addr() {
		return far{}, false
	}
	return e.ports.meaning(now, f.Server.Port())
}

// has are the WANs by which a connection has subflows. Those on others than it
// is to have are closed: the server learns it with its next packet.
func (e *Extender) has(now time.Time, c *lend.Connection, k *connection, wanted []uint32) (marks []uint32) {
	for _, f := range c.Flows() {
		if f == c.First {
			marks = append(marks, k.first)
			continue
		}
		what, ours := e.added(now, c, f)
		switch {
		case !ours:
		case slices.Contains(wanted, what.wan):
			marks = append(marks, what.wan)
		default:
			if err := conntrack.Delete(f.Client, f.Server); err != nil {
				e.log.Debug("not taken back", "src", f.Client, "dst", what.server, "error", err)
			}
			if c.Established(f) {
				e.shut(f)
			}
		}
	}
	return marks
}
