// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"maps"
	"sync/atomic"
	"time"

	"braid/onpath/lend"
	"braid/onpath/lender"
)

// An address that a client has heard of and does not use is announced again
// after the first of these, and ever more seldom up to the second: its line may
// be back, of which nobody tells.
const (
	firstReminder = time.Second
	lastReminder  = time.Minute
	// sweep is after how many seconds each connection has been asked for.
	sweep = 300
)

// lending lends one address to each of the connections of one kind.
type lending struct {
	*lender.Lender
	clients *clients
	// address says what is lent to a connection, if anything.
	address func(*lend.Connection) (lend.Address, bool)
	// opened is told of a connection to which something is lent, before its
	// client is; closed of its end. Both may be nil.
	opened, closed func(*lend.Connection, lend.Address)
	// ask says what is known of a connection's flow, of which the end may not be seen:
	// clients vanish.
	ask func(*lend.Connection, lend.Flow) lend.Knowledge

	// Under the lender's lock.
	idle  map[*lend.Connection]*reminder // whose address is not in use
	round uint                           // of look
	count atomic.Int64                   // of idle
}

type reminder struct {
	due   time.Time
	pause time.Duration
	round uint // in which its connection was last there
}

// open starts it, with what it shares with the packet filter.
func (l *lending) open(name string, group uint16) (err error) {
	l.idle = make(map[*lend.Connection]*reminder)
	l.Lender, err = lender.Open(lender.Settings{Table: table, Name: name, Group: group, Mark: markOurs, Size: connections,
		Offer: l.offer, Event: l.saw})
	return err
}

func (l *lending) offer(c *lend.Connection) []lend.Address {
	if a, ok := l.address(c); ok && l.clients.lends(c.First.Client.Addr(), time.Now()) {
		return []lend.Address{a}
	}
	return nil
}

func (l *lending) saw(s lend.Seen) {
	c, now := s.Connection, time.Now()
	a, ok := l.address(c)
	if !ok {
		return
	}
	client := c.First.Client.Addr()
	switch s.What {
	case lend.Opened:
		if l.opened != nil && c.Pending() {
			l.opened(c, a)
		}
	case lend.Heard:
		if !uses(c, a) && l.clients.takes(client, now) {
			l.remind(c, now)
		}
	case lend.Joined:
		if s.Flow.Server.Addr() == a.Addr.Addr() {
			l.clients.joined(client, now)
			delete(l.idle, c)
			for other, r := range l.idle { // the line works
				if other.First.Client.Addr() == client {
					r.due, r.pause = now, firstReminder
				}
			}
		}
	case lend.Left:
		if s.Flow.Server.Addr() == a.Addr.Addr() {
			l.remind(c, now)
		}
	case lend.Closed:
		delete(l.idle, c)
		if l.closed != nil {
			l.closed(c, a)
		}
	}
	l.count.Store(int64(len(l.idle)))
}

func (l *lending) remind(c *lend.Connection, now time.Time) {
	if l.idle[c] == nil {
		l.idle[c] = &reminder{now.Add(firstReminder), firstReminder, l.round + 1}
	}
}

// uses says whether a connection has a subflow to an address.
func uses(c *lend.Connection, a lend.Address) bool {
	for _, f := range c.Flows() {
		if f.Server.Addr() == a.Addr.Addr() {
			return true
		}
	}
	return false
}

// look forgets what has ended, and announces again what is due.
func (l *lending) look(now time.Time) {
	l.Sweep(sweep, l.ask)
	if l.count.Load() == 0 {
		return
	}
	l.Do(func(*lend.Table) { l.round++ })
	l.Again(func(c *lend.Connection) []lend.Address {
		r := l.idle[c]
		if r == nil {
			return nil
		}
		if r.round = l.round; now.Before(r.due) {
			return nil
		}
		a, ok := l.address(c)
		if !ok {
			return nil
		}
		r.pause = min(2*r.pause, lastReminder)
		r.due = now.Add(r.pause)
		return []lend.Address{a}
	})
	// Of too many the oldest are forgotten without a word.
	l.Do(func(*lend.Table) {
		maps.DeleteFunc(l.idle, func(_ *lend.Connection, r *reminder) bool { return r.round < l.round })
		l.count.Store(int64(len(l.idle)))
	})
}
