// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import "strings"

// eventObjectLocked serves the methods of the daemon's event object.
func (b *Broker) eventObjectLocked(p *peer, at attributes) Status {
	switch at.str(attrMethod) {
	case "register":
		return b.listenLocked(p, at[attrData])
	case "send":
		id, ok := find(at[attrData], "id", String)
		data, ok2 := find(at[attrData], "data", Table)
		if !ok || !ok2 {
			return ErrInvalidArgument
		}
		if strings.HasPrefix(id.str(), "ubus.") {
			return ErrPermissionDenied
		}
		b.eventLocked(p, id.str(), data.data)
		return statusOK
	}
	return ErrInvalidCommand
}

func (b *Broker) listenLocked(p *peer, args []byte) Status {
	pattern, ok := find(args, "pattern", String)
	id, ok2 := find(args, "object", Int32)
	if !ok || !ok2 {
		return ErrInvalidArgument
	}
	n, _ := id.integer()
	if uint32(n) < systemObjects {
		return ErrPermissionDenied
	}
	o := b.objects[uint32(n)]
	switch {
	case o == nil:
		return ErrNotFound
	case o.owner != p, pattern.str() == "":
		return ErrPermissionDenied
	}
	o.patterns = append(o.patterns, pattern.str())
	return statusOK
}

func (o *object) listensTo(name string) bool {
	for _, pattern := range o.patterns {
		prefix, partial := strings.CutSuffix(pattern, "*")
		if pattern == name || partial && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// eventLocked sends an event to all who listen but its sender, which is nil for
// the broker's own.
func (b *Broker) eventLocked(sender *peer, name string, data []byte) {
	for _, o := range b.objects {
		if o.owner == sender || !o.listensTo(name) {
			continue
		}
		b.eventSeq++
		o.owner.send(message{kind: kindInvoke, seq: b.eventSeq, body: invocation(o.id, name, data, false)})
	}
}

func (b *Broker) objectEventLocked(name string, o *object) {
	data, err := Marshal(struct {
		ID   int32  `json:"id"`
		Path string `json:"path"`
	}{int32(o.id), o.path})
	if err == nil { // it is short, and a path cannot hold a NUL
		b.eventLocked(nil, name, data)
	}
}
