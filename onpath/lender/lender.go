// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package lender does for package lend what it takes of the kernel: it reads the
// packets that the filter shows, sends announcements, and has the filter show
// more or less of a connection.
package lender

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"braid/onpath/lend"
	"braid/onpath/nflog"
	"braid/onpath/nft"
	"braid/onpath/raw"
	"braid/onpath/segment"
)

// Settings are what a Lender and the packet filter agree on, and what it is to
// do.
type Settings struct {
	Table string // of the filter, as "inet braid"
	Name  string // of the rules, see lend.Rules
	Group uint16 // of the filter's log
	Mark  uint32 // of the packets that are sent: the filter is not to track them
	Size  int    // of the table of connections

	// Offer says what to announce to a new connection's client.
	Offer func(*lend.Connection) []lend.Address
	// Event is told what has been seen; nil: nobody is. What a connection's
	// announcement needs is to be there when the event of its opening returns.
	Event func(lend.Seen)
}

// Stats counts.
type Stats struct {
	Packets     atomic.Uint64 // that the filter has shown
	Connections atomic.Uint64 // whose keys were seen
	Told        atomic.Uint64 // announcements sent
	Heard       atomic.Uint64 // addresses that a client has acknowledged
	Joined      atomic.Uint64 // subflows that were opened beside the first
}

// Lender lends addresses to connections. Offer, Event and what Do is given are
// called one at a time.
type Lender struct {
	Stats Stats

	settings Settings
	log      *nflog.Log
	sender   *raw.Sender
	sets     *nft.Elements

	mu    sync.Mutex
	table *lend.Table
}

// Open opens a lender whose rules are in the filter already. Serve is to follow.
// The error wraps EPERM when another process has the group.
func Open(s Settings) (_ *Lender, err error) {
	l := &Lender{settings: s, table: lend.NewTable(s.Size, s.Offer)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lending addresses: %w", err), l.Close())
		}
	}()
	if l.sender, err = raw.Open(s.Mark); err != nil {
		return nil, err
	}
	if l.sets, err = nft.OpenElements(s.Table); err != nil {
		return nil, err
	}
	if l.log, err = nflog.Open(s.Group, lend.Snap); err != nil {
		return nil, err
	}
	return l, nil
}

// Serve works until Close.
func (l *Lender) Serve() error {
	return l.log.Serve(func(packet []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.Stats.Packets.Add(1)
		l.saw(l.table.See(time.Now(), packet))
	})
}

func (l *Lender) saw(s lend.Seen) {
	switch s.What {
	case lend.Nothing:
		return
	case lend.Needless:
		l.hide(lend.SetPending, s.Flow)
		return
	case lend.Opened:
		l.Stats.Connections.Add(1)
	case lend.Joined:
		l.Stats.Joined.Add(1)
		l.show(lend.SetKnown, s.Flow)
	case lend.Heard:
		l.Stats.Heard.Add(1)
	case lend.Left, lend.Closed:
		if s.Flow != s.Connection.First { // it may have ended before it was made known
			l.hide(lend.SetKnown, s.Flow)
		}
	}
	if l.settings.Event != nil {
		l.settings.Event(s)
	}
	if s.What == lend.Told && l.sender.Send(s.Packet, s.Flow.Client.Addr()) == nil {
		l.Stats.Told.Add(1)
	}
	switch s.What {
	case lend.Opened, lend.Told, lend.Heard:
		if !s.Connection.Pending() {
			for _, f := range s.Connection.Flows() {
				l.hide(lend.SetPending, f)
			}
		}
	}
}

// Poke makes the client of an established flow say something (RFC 5961 section 4):
// one that nobody knows any more on the way is reset by that. To a client that has not
// had the answer to its SYN yet it would look as if both ends had begun, and a kernel
// then gives MPTCP up with the whole connection (6.18, subflow_simultaneous_connect).
func (l *Lender) Poke(f lend.Flow) error {
	syn := segment.Segment{Src: f.Server, Dst: f.Client, Flags: segment.SYN}
	return l.sender.Send(syn.Build(), f.Client.Addr())
}

// show has the filter show more of a flow. Where there is no room, an
// announcement is not made, or a subflow's end not seen.
func (l *Lender) show(set string, f lend.Flow) {
	_ = l.sets.Add(l.set(set, f), nft.Key(f.Client, f.Server), 0)
}

// hide takes it back. One that is shown for longer costs packets, no more.
func (l *Lender) hide(set string, f lend.Flow) {
	_ = l.sets.Delete(l.set(set, f), nft.Key(f.Client, f.Server))
}

func (l *Lender) set(set string, f lend.Flow) string {
	family := "ip"
	if f.Client.Addr().Is6() {
		family = "ip6"
	}
	return l.settings.Name + set + family
}

// Do has f look at the connections. It may call Withdraw and Forget; to announce,
// it is to call Again.
func (l *Lender) Do(f func(*lend.Table)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.table)
}

// Again has addresses announced once more to the connections for which which
// names some.
func (l *Lender) Again(which func(*lend.Connection) []lend.Address) {
	l.Do(func(t *lend.Table) {
		for c := range t.All() {
			for _, a := range which(c) {
				for _, f := range t.Again(c, a) {
					l.show(lend.SetPending, f)
				}
			}
		}
	})
}

// Sweep asks what is known of some connections' flows, so that each has its turn in
// about so many calls: some have ended, and it was not shown.
func (l *Lender) Sweep(turns int, ask func(*lend.Connection, lend.Flow) lend.Knowledge) {
	l.Do(func(t *lend.Table) {
		var some []*lend.Connection
		n := t.Len()/turns + 1
		for c := range t.All() { // in an order of its own each time
			if some = append(some, c); len(some) == n {
				break
			}
		}
		for _, c := range some {
			for _, f := range c.Flows() {
				if t.Learn(c, f, ask(c, f)) {
					l.hide(lend.SetKnown, f)
					l.hide(lend.SetPending, f)
					l.saw(t.Left(c, f))
				}
			}
		}
	})
}

// Restore goes on with connections that another one has known, a line of
// lend.Connection.AppendText each, of which those flows are open that isOpen says
// so of. Restored is told of each.
func (l *Lender) Restore(saved []byte, isOpen func(lend.Flow) bool, restored func(*lend.Connection)) error {
	var errs []error
	l.Do(func(t *lend.Table) {
		for line := range strings.Lines(string(saved)) {
			c, err := t.Restore(line, isOpen)
			if err != nil {
				errs = append(errs, err)
			}
			if c == nil {
				continue
			}
			for _, f := range c.Flows() {
				l.show(lend.SetKnown, f)
			}
			restored(c)
		}
	})
	return errors.Join(errs...)
}

// Close ends Serve.
func (l *Lender) Close() error {
	var errs []error
	if l.log != nil {
		errs = append(errs, l.log.Close())
	}
	if l.sender != nil {
		errs = append(errs, l.sender.Close())
	}
	if l.sets != nil {
		errs = append(errs, l.sets.Close())
	}
	return errors.Join(errs...)
}
