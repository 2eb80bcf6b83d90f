// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"maps"
	"slices"
	"strings"
)

// silent is the status of what the broker does not answer itself.
const silent = ^statusOK

// handleLocked does what a client's message asks for.
func (b *Broker) handleLocked(p *peer, m message) {
	at := m.attributes()
	s := ErrInvalidCommand
	switch m.kind {
	case kindPing:
		p.send(message{kind: kindData, seq: m.seq, peer: m.peer, body: m.body})
		s = statusOK
	case kindLookup:
		s = b.lookupLocked(p, m, at)
	case kindInvoke:
		s = b.invokeLocked(p, m, at)
	case kindStatus, kindData:
		b.answerLocked(p, m, at)
		s = silent
	case kindAddObject:
		s = b.addLocked(p, m, at)
	case kindRemoveObject:
		s = b.removeLocked(p, m, at)
	case kindSubscribe:
		s = b.subscribeLocked(p, m, at)
	case kindUnsubscribe:
		s = b.unsubscribeLocked(p, m, at)
	case kindNotify:
		s = b.notifyLocked(p, m, at)
	}
	if s != silent {
		body := appendAttr32(nil, attrStatus, uint32(s))
		p.send(message{kind: kindStatus, seq: m.seq, peer: m.peer, body: body})
	}
}

func (b *Broker) lookupLocked(p *peer, m message, at attributes) Status {
	path := at.str(attrObjPath)
	prefix, partial := strings.CutSuffix(path, "*")
	switch {
	case !at.has(attrObjPath):
		partial = true
	case path == "":
		return ErrInvalidArgument
	case !partial:
		o := b.paths[path]
		if o == nil {
			return ErrNotFound
		}
		o.describe(p, m)
		return statusOK
	}
	found := !at.has(attrObjPath)
	for _, path := range slices.Sorted(maps.Keys(b.paths)) {
		if partial && strings.HasPrefix(path, prefix) {
			found = true
			b.paths[path].describe(p, m)
		}
	}
	if !found {
		return ErrNotFound
	}
	return statusOK
}

// describe answers a lookup. Objects without a type stay hidden, as in ubusd.
func (o *object) describe(p *peer, m message) {
	if o.typ == nil {
		return
	}
	body := appendAttrString(nil, attrObjPath, o.path)
	body = appendAttr32(body, attrObjID, o.id)
	body = appendAttr32(body, attrObjType, o.typ.id)
	body = appendAttr(body, attrSignature, o.typ.sig)
	p.send(message{kind: kindData, seq: m.seq, peer: m.peer, body: body})
}

func (b *Broker) invokeLocked(p *peer, m message, at attributes) Status {
	if !at.has(attrObjID, attrMethod) {
		return ErrInvalidArgument
	}
	if at.u32(attrObjID) == eventObject {
		return b.eventObjectLocked(p, at)
	}
	o := b.objects[at.u32(attrObjID)]
	if o == nil {
		return ErrNotFound
	}
	o.forward(p, m, at)
	return silent
}

// forward passes an invocation or notification by p on to the object's owner.
func (o *object) forward(p *peer, m message, at attributes) {
	body := appendAttr32(nil, attrObjID, o.id)
	body = appendAttr(body, attrMethod, at[attrMethod])
	if at.has(attrData) {
		body = appendAttr(body, attrData, at[attrData])
	}
	if at.flag(attrNoReply) {
		body = appendAttr(body, attrNoReply, []byte{1})
	}
	o.owner.send(message{kind: kindInvoke, seq: m.seq, peer: p.id, body: body})
}

// answerLocked passes an answer on to the client that called; who answers for
// an object that is not his is not heard.
func (b *Broker) answerLocked(p *peer, m message, at attributes) {
	o, caller := b.objects[at.u32(attrObjID)], b.peers[m.peer]
	if o == nil || o.owner != p || caller == nil {
		return
	}
	if m.kind == kindStatus && !at.has(attrStatus) || m.kind == kindData && !at.has(attrData) {
		return
	}
	caller.send(message{kind: m.kind, seq: m.seq, peer: o.id, body: m.body})
}

// notifyLocked passes a notification on. If answers are wanted, the sender
// first gets the list of those who will answer.
func (b *Broker) notifyLocked(p *peer, m message, at attributes) Status {
	o := b.objects[at.u32(attrObjID)]
	switch {
	case !at.has(attrObjID, attrMethod):
		return ErrInvalidArgument
	case o == nil:
		return ErrNotFound
	case o.owner != p:
		return ErrPermissionDenied
	}
	if !at.flag(attrNoReply) {
		body := appendAttr32(nil, attrObjID, o.id)
		body, list := openAttr(body, attrSubscribers)
		for _, s := range o.subscribers {
			body = appendAttr32(body, 0, s.id)
		}
		body = closeAttr(body, list)
		body = appendAttr32(body, attrStatus, uint32(statusOK))
		p.send(message{kind: kindStatus, seq: m.seq, peer: m.peer, body: body})
	}
	for _, s := range o.subscribers {
		s.forward(p, m, at)
	}
	return silent
}
