// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import "slices"

// object is a published object, or the nameless end of a subscription or of an
// event listener.
type object struct {
	id          uint32
	owner       *peer
	path        string // "" has none
	typ         *objectType
	patterns    []string  // events it listens to
	subscribers []*object // of its notifications
	targets     []*object // it subscribes to
	seq         uint16    // of messages the broker itself sends it
}

// objectType is a signature, which objects can share.
type objectType struct {
	id   uint32
	refs int
	sig  []byte
}

func (b *Broker) addLocked(p *peer, m message, at attributes) Status {
	path := at.str(attrObjPath)
	if _, taken := b.paths[path]; path != "" && taken {
		return ErrInvalidArgument
	}
	t := b.types[at.u32(attrObjType)]
	if t == nil && !at.has(attrObjType) && at.has(attrSignature) {
		if !wellFormed(at[attrSignature]) {
			return ErrInvalidArgument
		}
		t = &objectType{id: newID(b.types), sig: at[attrSignature]}
		b.types[t.id] = t
	}
	o := &object{id: newID(b.objects), owner: p, path: path, typ: t}
	b.objects[o.id] = o
	p.objects[o.id] = o
	if t != nil {
		t.refs++
	}
	if path != "" {
		b.paths[path] = o
		b.objectEventLocked(objectAdded, o)
	}
	body := appendAttr32(nil, attrObjID, o.id)
	if t != nil && at.has(attrSignature) {
		body = appendAttr32(body, attrObjType, t.id)
	}
	p.send(message{kind: kindData, seq: m.seq, peer: m.peer, body: body})
	return statusOK
}

func wellFormed(signature []byte) bool {
	for a, err := range attrs(signature) {
		if err != nil {
			return false
		}
		if f, err := a.field(); err != nil || f.name == "" {
			return false
		}
	}
	return true
}

func (b *Broker) removeLocked(p *peer, m message, at attributes) Status {
	o := b.objects[at.u32(attrObjID)]
	switch {
	case !at.has(attrObjID):
		return ErrInvalidArgument
	case o == nil:
		return ErrNotFound
	case o.owner != p:
		return ErrPermissionDenied
	}
	body := appendAttr32(nil, attrObjID, o.id)
	if o.typ != nil && o.typ.refs == 1 {
		body = appendAttr32(body, attrObjType, o.typ.id)
	}
	p.send(message{kind: kindData, seq: m.seq, peer: m.peer, body: body})
	b.freeLocked(o)
	return statusOK
}

// freeLocked takes an object away and tells all who have to do with it.
func (b *Broker) freeLocked(o *object) {
	delete(b.objects, o.id)
	delete(o.owner.objects, o.id)
	if o.typ != nil {
		if o.typ.refs--; o.typ.refs == 0 {
			delete(b.types, o.typ.id)
		}
	}
	for _, target := range slices.Clone(o.targets) {
		unsubscribe(o, target)
	}
	for _, s := range o.subscribers {
		s.targets = remove(s.targets, o)
		s.seq++
		body := appendAttr32(nil, attrObjID, s.id)
		body = appendAttr32(body, attrTarget, o.id)
		s.owner.send(message{kind: kindUnsubscribe, seq: s.seq, body: body})
	}
	if o.path != "" {
		delete(b.paths, o.path)
		b.objectEventLocked(objectRemoved, o)
	}
}

func remove(os []*object, o *object) []*object {
	return slices.DeleteFunc(os, func(x *object) bool { return x == o })
}

func (b *Broker) subscribeLocked(p *peer, _ message, at attributes) Status {
	o, target := b.objects[at.u32(attrObjID)], b.objects[at.u32(attrTarget)]
	switch {
	case !at.has(attrObjID, attrTarget):
		return ErrInvalidArgument
	case o == nil:
		return ErrNotFound
	case o.owner != p:
		return ErrInvalidArgument
	case target == nil:
		return ErrNotFound
	case target.owner == p:
		return ErrInvalidArgument
	case slices.Contains(target.subscribers, o):
		return statusOK
	}
	target.subscribers = append(target.subscribers, o)
	o.targets = append(o.targets, target)
	if len(target.subscribers) == 1 {
		target.tellActive(true)
	}
	return statusOK
}

func (b *Broker) unsubscribeLocked(p *peer, _ message, at attributes) Status {
	o, target := b.objects[at.u32(attrObjID)], b.objects[at.u32(attrTarget)]
	switch {
	case !at.has(attrObjID, attrTarget):
		return ErrInvalidArgument
	case o == nil:
		return ErrNotFound
	case o.owner != p:
		return ErrInvalidArgument
	case target == nil || !slices.Contains(o.targets, target):
		return ErrNotFound
	}
	unsubscribe(o, target)
	return statusOK
}

func unsubscribe(o, target *object) {
	o.targets = remove(o.targets, target)
	target.subscribers = remove(target.subscribers, o)
	if len(target.subscribers) == 0 {
		target.tellActive(false)
	}
}

// tellActive tells the owner whether the object has subscribers.
func (o *object) tellActive(active bool) {
	flag := []byte{0}
	if active {
		flag[0] = 1
	}
	o.seq++
	body := appendAttr32(nil, attrObjID, o.id)
	body = appendAttr(body, attrActive, flag)
	o.owner.send(message{kind: kindNotify, seq: o.seq, body: body})
}
