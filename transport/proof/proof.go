// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package proof lets a client prove to a converter that it has a key, without
// sending it, in the Cookie TLV of RFC 8803. docs/convert.md says against whom,
// how, and why so.
package proof

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/blake2s"

	"braid/transport/convert"
)

// The length of a secret, in bytes.
const (
	MinSecret = 16
	MaxSecret = 64
)

// The fields of a proof, at offsets in bytes.
const (
	version = 1

	atID      = 1
	atTicket  = 8
	atCounter = 24
	atMAC     = 32
	length    = 48
)

// ID names a key to who does not have it.
type ID [atTicket - atID]byte

// mac is the code over a message.
type mac [length - atMAC]byte

// Key is a secret in the forms it is used in.
type Key struct {
	ID              ID
	request, answer [blake2s.Size]byte
}

// NewKey derives a key from a secret.
func NewKey(secret []byte) Key {
	id := derive("id", secret)
	return Key{ID: ID(id[:len(ID{})]), request: derive("request", secret), answer: derive("answer", secret)}
}

func derive(label string, secret []byte) [blake2s.Size]byte {
	return blake2s.Sum256(append([]byte("braid "+label+"\x00"), secret...))
}

// Ticket is what a converter hands out for messages to be counted under. The
// zero value is no ticket.
type Ticket struct {
	Run    uint64 // of the converter
	Serial uint64 // of the ticket, from 1
}

// fields are what a proof says beside its MAC.
type fields struct {
	id      ID
	ticket  Ticket
	counter uint64
}

func (f fields) cookie() convert.Cookie {
	b := make([]byte, length)
	b[0] = version
	copy(b[atID:], f.id[:])
	binary.BigEndian.PutUint64(b[atTicket:], f.ticket.Run)
	binary.BigEndian.PutUint64(b[atTicket+8:], f.ticket.Serial)
	binary.BigEndian.PutUint64(b[atCounter:], f.counter)
	return convert.Cookie{Value: b}
}

// parse reads a proof; ok is false for a cookie that is none.
func parse(c convert.Cookie) (f fields, ok bool) {
	b := c.Value
	if len(b) != length || b[0] != version {
		return fields{}, false
	}
	return fields{
		id:      ID(b[atID:atTicket]),
		ticket:  Ticket{binary.BigEndian.Uint64(b[atTicket:]), binary.BigEndian.Uint64(b[atTicket+8:])},
		counter: binary.BigEndian.Uint64(b[atCounter:]),
	}, true
}

// KeyID is the id of the key that a cookie claims to prove; ok is false for
// one that is no proof.
func KeyID(c convert.Cookie) (id ID, ok bool) {
	f, ok := parse(c)
	return f.id, ok
}

// carried is the proof that a message carries, as a request and an answer to
// Info do in a TLV of their own and an answer to Connect in its error 3.
func carried(m convert.Message) convert.Cookie {
	if e, ok := convert.Find[convert.Error](m); ok {
		c, _ := e.Cookie()
		return c
	}
	c, _ := convert.Find[convert.Cookie](m)
	return c
}

// seal encodes a message and fills in the MAC of the proof it carries; to is
// the MAC of the request that it answers.
func seal(m convert.Message, key *[blake2s.Size]byte, to []byte) (b []byte, code mac, err error) {
	if b, err = m.Append(nil); err != nil {
		return nil, mac{}, err
	}
	parsed, _, err := convert.Parse(b)
	if err != nil {
		return nil, mac{}, err
	}
	field := carried(parsed).Value
	if len(field) != length {
		return nil, mac{}, errors.New("sealing a message that carries no proof")
	}
	code = sum(b, field[atMAC:], key, to)
	copy(field[atMAC:], code[:])
	return b, code, nil
}

// valid says whether the MAC of the proof c, which lies in the message b, is
// right.
func valid(b []byte, c convert.Cookie, key *[blake2s.Size]byte, to []byte) bool {
	got := mac(c.Value[atMAC:])
	want := sum(b, c.Value[atMAC:], key, to)
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// sum is the MAC over a message, of which field is to hold the MAC.
func sum(b, field []byte, key *[blake2s.Size]byte, to []byte) (code mac) {
	old := mac(field)
	clear(field)
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(fmt.Sprintf("keying BLAKE2s: %v", err)) // for a key that is too long
	}
	h.Write(to)
	h.Write(b)
	h.Sum(code[:0])
	copy(field, old[:])
	return code
}
