// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Event is an event, or a notification of an object.
type Event struct {
	Name string
	Data Data

	// Lost is how many events before this one were dropped because 256 waited
	// for the handler.
	Lost int
}

// Listen has fn called for every event that matches pattern, a name or the
// beginning of one followed by *. Calls come in order and not concurrently.
// Events during a reconnect are missed.
func (c *Client) Listen(pattern string, fn func(Event)) (*Registration, error) {
	l := &listener{pattern: pattern, fn: fn, box: mailbox{spawn: c.spawn}}
	if err := c.add(l); err != nil {
		return nil, err
	}
	return &Registration{c: c, r: l}, nil
}

type listener struct {
	pattern string
	fn      func(Event)
	box     mailbox
}

func (l *listener) register(cn *conn) error {
	id, err := cn.addObject(l, l, nil)
	if err == nil {
		err = cn.listen(id, l.pattern)
	}
	if err != nil {
		return fmt.Errorf("listening to %s: %w", l.pattern, err)
	}
	return nil
}

func (l *listener) receive(cn *conn, m message, at attributes) {
	if m.kind == kindInvoke {
		deliver(&l.box, l.fn, cn, m, at)
	}
}

func (l *listener) lost() {}

// deliver queues an event for fn, and answers those who want an answer; the
// daemon's own events come from peer 0, which wants none.
func deliver(box *mailbox, fn func(Event), cn *conn, m message, at attributes) {
	e := Event{Name: at.str(attrMethod), Data: at[attrData]}
	box.offer(func(lost int) {
		e.Lost = lost
		fn(e)
	})
	if m.peer != 0 && !at.flag(attrNoReply) {
		cn.offer(answer(m, at, statusOK))
	}
}

// Subscription is an object to whose notifications a client subscribes.
type Subscription struct {
	Path string

	// Notify is called for every notification.
	Notify func(Event)

	// Active, if set, is told when the subscription takes hold and when the
	// object or the connection goes. What happened in between is not told, so
	// with true is the time to read the object's state.
	Active func(bool)
}

// Subscribe subscribes to an object, now or when it appears, and again whenever
// it comes back. The functions of s are called in order and not concurrently.
// It is ErrInvalidArgument to subscribe to an object of the same client.
func (c *Client) Subscribe(s Subscription) (*Registration, error) {
	sub := &subscriber{Subscription: s, c: c, box: mailbox{spawn: c.spawn}}
	if err := c.add(sub); err != nil {
		return nil, err
	}
	return &Registration{c: c, r: sub}, nil
}

type subscriber struct {
	Subscription
	c   *Client
	box mailbox
}

func (s *subscriber) register(cn *conn) error {
	a := &attachment{subscriber: s}
	id, err := cn.addObject(s, a, nil)
	if err == nil {
		a.id = id
		err = cn.listen(id, objectAdded)
	}
	if err == nil {
		err = a.settle(cn)
	}
	if err != nil {
		return fmt.Errorf("subscribing to %s: %w", s.Path, err)
	}
	return nil
}

// attachment is a subscriber on one connection. Its object gets the
// notifications, and the daemon's word of new objects.
type attachment struct {
	*subscriber
	id uint32

	mu     sync.Mutex
	busy   bool
	again  bool
	target uint32
}

// settle subscribes to the object that is now at the path. Asked while at it,
// it looks once more when done.
func (a *attachment) settle(cn *conn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again = true
	if a.busy {
		return nil
	}
	a.busy = true
	defer func() { a.busy = false }()
	for a.again {
		a.again = false
		a.mu.Unlock()
		err := a.attach(cn)
		a.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *attachment) attach(cn *conn) error {
	var id uint32
	err := cn.settled(func(ctx context.Context) (err error) {
		id, err = cn.lookupID(ctx, a.Path)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	have := a.target == id
	a.mu.Unlock()
	if have {
		return nil
	}
	body := appendAttr32(nil, attrObjID, a.id)
	body = appendAttr32(body, attrTarget, id)
	err = cn.register(kindSubscribe, body, func(k kind, at attributes) {
		if k == kindStatus && at.u32(attrStatus) == 0 {
			a.setTarget(id)
		}
	})
	if errors.Is(err, ErrNotFound) { // gone since; its return will be told
		return nil
	}
	return err
}

func (a *attachment) setTarget(id uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was := a.target; a.Active != nil && (was != 0) != (id != 0) {
		a.box.put(func() { a.Active(id != 0) })
	}
	a.target = id
}

func (a *attachment) receive(cn *conn, m message, at attributes) {
	switch {
	case m.kind == kindUnsubscribe:
		a.mu.Lock()
		gone := a.target != 0 && a.target == at.u32(attrTarget)
		a.mu.Unlock()
		if gone {
			a.setTarget(0)
		}
	case m.kind == kindInvoke && m.peer == 0:
		if f, ok := find(at[attrData], "path", String); ok && f.str() == a.Path {
			a.c.spawn(func() {
				if err := a.settle(cn); err != nil && cn.ctx.Err() == nil {
					cn.cancel(fmt.Errorf("subscribing to %s: %w", a.Path, err))
				}
			})
		}
	case m.kind == kindInvoke:
		deliver(&a.box, a.Notify, cn, m, at)
	}
}

func (a *attachment) lost() { a.setTarget(0) }
