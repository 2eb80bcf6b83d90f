// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
)

const (
	maxRunning = 16  // handlers at a time
	maxWaiting = 256 // handlers with those that wait for their turn
)

// Object is what a client publishes.
type Object struct {
	Path    string
	Methods []Method

	// Subscribed, if set, is told when the first subscriber has come and when
	// the last has gone, in turn and not concurrently.
	Subscribed func(bool)
}

// Method is one method of an object, in the order `ubus -v list` shows.
type Method struct {
	Name string
	Args []Arg

	// Handle answers a call with what Marshal takes, or nil for no data. A
	// Status in the error's chain is what the caller sees, ErrUnknown if there
	// is none, or if the answer cannot be encoded. ctx ends with the connection.
	// At most 16 handlers of a client run at a time; up to 240 calls wait,
	// further ones are answered ErrNoMemory.
	Handle func(ctx context.Context, r *Request) (any, error)
}

// Arg is one argument a method takes. ubus does not enforce it.
type Arg struct {
	Name string
	Type Type
}

// Request is a call of a method.
type Request struct {
	Method string
	Data   Data
}

// Args decodes the arguments into v, as Unmarshal does. Its error is
// ErrInvalidArgument for the caller.
func (r *Request) Args(v any) error {
	if err := r.Data.Unmarshal(v); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidArgument, err)
	}
	return nil
}

// Publication is a published object.
type Publication struct {
	Registration
	methods    map[string]Method
	body       []byte
	path       string
	subscribed func(bool)
	watched    bool // touched by the reading goroutine, and after it by disconnect
	box        mailbox
}

// Publish registers an object, now and with every later connection. Without a
// connection it succeeds at once; a refusal by the daemon (ErrInvalidArgument:
// the path is taken) then ends the connection, shows in State, and is tried again.
func (c *Client) Publish(o Object) (*Publication, error) {
	p := &Publication{
		methods:    map[string]Method{},
		path:       o.Path,
		subscribed: o.Subscribed,
		box:        mailbox{spawn: c.spawn},
	}
	p.body = appendAttrString(nil, attrObjPath, o.Path)
	body, at := openAttr(p.body, attrSignature)
	for _, m := range o.Methods {
		p.methods[m.Name] = m
		var err error
		if body, err = appendMethod(body, m); err != nil {
			return nil, fmt.Errorf("publishing %s: %w", o.Path, err)
		}
	}
	p.body = closeAttr(body, at)
	p.Registration = Registration{c: c, r: p}
	if err := c.add(p); err != nil {
		return nil, err
	}
	return p, nil
}

// appendMethod writes a signature: a table of the arguments' types.
func appendMethod(b []byte, m Method) ([]byte, error) {
	b, at, err := openField(b, Table, m.Name)
	if err != nil {
		return nil, err
	}
	for _, a := range m.Args {
		if b, err = appendInt(b, a.Name, int64(a.Type), false); err != nil {
			return nil, err
		}
	}
	return closeAttr(b, at), nil
}

// signature reads what appendMethod writes, as far as it is well-formed.
func signature(b []byte) []Method {
	var ms []Method
	for a, err := range attrs(b) {
		f, ferr := a.field()
		if err != nil || ferr != nil {
			break
		}
		m := Method{Name: f.name}
		f.each(1, func(in field) error {
			t, _ := in.integer()
			m.Args = append(m.Args, Arg{Name: in.name, Type: Type(t)})
			return nil
		})
		ms = append(ms, m)
	}
	return ms
}

func (p *Publication) register(cn *conn) error {
	if _, err := cn.addObject(p, p, p.body); err != nil {
		return fmt.Errorf("publishing %s: %w", p.path, err)
	}
	return nil
}

// Notify sends a notification to the object's subscribers; that they got it is
// not waited for. ErrNotFound if the object is removed, or not yet published
// again after a reconnect.
func (p *Publication) Notify(ctx context.Context, name string, v any) error {
	if err := p.notify(ctx, name, v); err != nil {
		return fmt.Errorf("notifying %s of %s: %w", p.path, name, err)
	}
	return nil
}

func (p *Publication) notify(ctx context.Context, name string, v any) error {
	data, err := Marshal(v)
	if err != nil {
		return err
	}
	cn, err := p.c.conn()
	if err != nil {
		return err
	}
	id, ok := cn.idOf(p)
	if !ok {
		return ErrNotFound
	}
	return cn.send(ctx, message{kind: kindNotify, peer: id, body: invocation(id, name, data, true)})
}

func (p *Publication) receive(cn *conn, m message, at attributes) {
	switch m.kind {
	case kindNotify:
		p.setWatched(at.flag(attrActive))
	case kindInvoke:
		p.c.serve(cn, p, m, at)
	}
}

func (p *Publication) lost() { p.setWatched(false) }

func (p *Publication) setWatched(w bool) {
	if p.subscribed != nil && p.watched != w {
		p.box.put(func() { p.subscribed(w) })
	}
	p.watched = w
}

// serve runs the handler of an invocation in its own goroutine, so that the
// connection goes on being read.
func (c *Client) serve(cn *conn, p *Publication, m message, at attributes) {
	if c.handlers.Add(1) > maxWaiting {
		c.handlers.Add(-1)
		cn.offer(answer(m, at, ErrNoMemory))
		return
	}
	c.spawn(func() {
		defer c.handlers.Add(-1)
		select {
		case c.slotC <- struct{}{}:
		case <-cn.ctx.Done():
			return
		}
		defer func() { <-c.slotC }()
		status := p.handle(cn, m, at)
		if !at.flag(attrNoReply) {
			cn.send(cn.ctx, answer(m, at, status))
		}
	})
}

func (p *Publication) handle(cn *conn, m message, at attributes) Status {
	name := at.str(attrMethod)
	method, ok := p.methods[name]
	if !ok {
		return ErrMethodNotFound
	}
	v, err := method.Handle(cn.ctx, &Request{Method: name, Data: at[attrData]})
	if err == nil && v != nil && !at.flag(attrNoReply) {
		var data Data
		if data, err = Marshal(v); err == nil {
			body := appendAttr32(nil, attrObjID, at.u32(attrObjID))
			body = appendAttr(body, attrData, data)
			err = cn.send(cn.ctx, message{kind: kindData, seq: m.seq, peer: m.peer, body: body})
		}
	}
	var s Status
	if err == nil || errors.As(err, &s) {
		return s
	}
	return ErrUnknown
}
