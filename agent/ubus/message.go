// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"encoding/binary"
	"fmt"
	"io"
)

// kind is what a message is (enum ubus_msg_type).
type kind uint8

const (
	kindHello kind = iota
	kindStatus
	kindData
	kindPing
	kindLookup
	kindInvoke
	kindAddObject
	kindRemoveObject
	kindSubscribe
	kindUnsubscribe
	kindNotify
	kindMonitor
)

// The attributes of a message (enum ubus_msg_attr).
const (
	attrStatus      = 1 + iota
	attrObjPath     // string
	attrObjID       // int32
	attrMethod      // string
	attrObjType     // int32
	attrSignature   // tables, one a method: name of the argument -> its type
	attrData        // fields
	attrTarget      // int32
	attrActive      // int8
	attrNoReply     // int8
	attrSubscribers // int32s with id 0
	attrUser        // string
	attrGroup       // string
	attrMax
)

// Objects below systemObjects belong to the daemon.
const (
	eventObject   = 1
	systemObjects = 1024
)

// Events of the daemon, about objects with a path: {id, path}.
const (
	objectAdded   = "ubus.object.add"
	objectRemoved = "ubus.object.remove"
)

const headerSize = 8

// message is a header of eight bytes (version 0, kind, sequence, peer) and one
// blob attribute, id 0, with body as its payload. What peer is depends on the
// direction: the object called, the client that calls, or the object that
// answers.
type message struct {
	kind kind
	seq  uint16
	peer uint32
	body []byte
}

func (m message) append(b []byte) []byte {
	b = append(b, 0, byte(m.kind))
	b = binary.BigEndian.AppendUint16(b, m.seq)
	b = binary.BigEndian.AppendUint32(b, m.peer)
	return appendAttr(b, 0, m.body)
}

// tooLong says so before a message is sent that its receiver would answer by
// closing the connection.
func (m message) tooLong() error {
	if n := len(m.body) + attrHeader; n > MaxMessage {
		return fmt.Errorf("message of %d bytes, at most %d are allowed", n, MaxMessage)
	}
	return nil
}

// maxReceived is what a client takes: ubusd forwards a call of the largest size
// with the caller's user and group added.
const maxReceived = MaxMessage + 4096

// readMessage refuses messages of more than most bytes.
func readMessage(r io.Reader, most int) (message, error) {
	var h [headerSize + attrHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return message{}, fmt.Errorf("reading header: %w", err)
	}
	if h[0] != 0 {
		return message{}, fmt.Errorf("message of version %d: %w", h[0], ErrParse)
	}
	n := int(binary.BigEndian.Uint32(h[headerSize:]) & attrLenMask)
	if n < attrHeader || align(n) > most {
		return message{}, fmt.Errorf("message of %d bytes: %w", n, ErrParse)
	}
	m := message{
		kind: kind(h[1]),
		seq:  binary.BigEndian.Uint16(h[2:]),
		peer: binary.BigEndian.Uint32(h[4:]),
		body: make([]byte, n-attrHeader),
	}
	if _, err := io.ReadFull(r, m.body); err != nil {
		return message{}, fmt.Errorf("reading body: %w", err)
	}
	return m, nil
}

// attributes are the payloads of a message's attributes by their id; nil where
// there is none.
type attributes [attrMax][]byte

// attributes reads as libubox does: attributes of the wrong length are as
// absent, and so is what follows a malformed one.
func (m message) attributes() attributes {
	var at attributes
	for a, err := range attrs(m.body) {
		if err != nil {
			break
		}
		ok := a.id < attrMax
		switch a.id {
		case attrStatus, attrObjID, attrObjType, attrTarget:
			ok = len(a.data) == 4
		case attrActive, attrNoReply:
			ok = len(a.data) == 1
		case attrObjPath, attrMethod, attrUser, attrGroup:
			ok = len(a.data) > 0 && a.data[len(a.data)-1] == 0
		}
		if ok {
			at[a.id] = a.data
		}
	}
	return at
}

func (at *attributes) has(ids ...int) bool {
	for _, id := range ids {
		if at[id] == nil {
			return false
		}
	}
	return true
}

// u32 is 0 where the attribute is absent; no object has that id.
func (at *attributes) u32(id int) uint32 {
	if at[id] == nil {
		return 0
	}
	return binary.BigEndian.Uint32(at[id])
}

func (at *attributes) str(id int) string { return field{data: at[id]}.str() }

func (at *attributes) flag(id int) bool { return at[id] != nil && at[id][0] != 0 }
