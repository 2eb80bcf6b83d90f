// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package convert encodes and decodes the messages of the 0-RTT TCP Convert
// Protocol, version 1 (RFC 8803).
//
// A Convert message is the first thing on the stream in either direction; what
// follows it is user data. docs/convert.md says how braid uses the protocol.
package convert

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// Version is the protocol version this package speaks.
	Version = 1
	// MaxLen is the length of the longest message in bytes: its Total Length
	// field counts 32-bit words in eight bits (RFC 8803, section 6.1).
	MaxLen = 255 * word

	magic     = 0x2263
	word      = 4
	headerLen = word
	// room is for a Connect with options and a proof, and what answers one.
	room = 96
)

// Message is one Convert message. A message without TLVs is a bare fixed
// header, which a converter may send to confirm a Base Connect.
type Message struct {
	TLVs []TLV
}

// Request is what a client opens a connection with: what it wants, and its
// cookie unless that is empty.
func Request(c Connect, cookie []byte) Message {
	if len(cookie) == 0 {
		return Message{TLVs: []TLV{c}}
	}
	return Message{TLVs: []TLV{c, Cookie{Value: cookie}}}
}

// Reply is what a converter answers with: one of [ExtendedTCPHeader],
// [SupportedTCPExtensions] and [Error], the second with [Families] for a client
// that has asked for them.
func Reply(t ...TLV) Message {
	return Message{TLVs: t}
}

// Find returns the TLV of type T in m and whether there is one.
func Find[T TLV](m Message) (T, bool) {
	for _, t := range m.TLVs {
		if t, ok := t.(T); ok {
			return t, true
		}
	}
	var none T
	return none, false
}

// CheckRequest tells a converter whether m is something a client may ask: Info
// or Connect, with or without a Cookie and Families. The error is a [*ProtocolError].
func (m Message) CheckRequest() error {
	if len(m.TLVs) == 0 {
		// Section 6: a SYN without Convert TLVs is to be ignored silently.
		return &ProtocolError{Reason: "no TLVs"}
	}
	asks := false
	for _, t := range m.TLVs {
		switch t.(type) {
		case Info, Connect:
			asks = true
		case Cookie, Families:
		default:
			return m.unsupported(fmt.Sprintf("%v TLV from a client", t.Type()))
		}
	}
	if !asks {
		return m.unsupported("neither Info nor Connect")
	}
	return nil
}

func (m Message) unsupported(reason string) error {
	b, err := m.Append(nil)
	if err != nil {
		return fmt.Errorf("echoing request: %w", err)
	}
	return &ProtocolError{Reason: reason, Reply: echo(UnsupportedMessage, b)}
}

// Append appends the encoding of m to b. It refuses what a receiver would have
// to refuse: a TLV that occurs twice, a Connect to an address that is no
// destination, broken TCP options, more than [MaxLen] bytes.
func (m Message) Append(b []byte) ([]byte, error) {
	if b == nil {
		b = make([]byte, 0, room)
	}
	start := len(b)
	b = append(b, Version, 0, magic>>8, magic&0xff)
	for i, t := range m.TLVs {
		if contains(m.TLVs[:i], t.Type()) {
			return nil, fmt.Errorf("encoding Convert message: two %v TLVs", t.Type())
		}
		at := len(b)
		b = append(b, byte(t.Type()), 0)
		var err error
		if b, err = t.appendValue(b); err != nil {
			return nil, fmt.Errorf("encoding %v TLV: %w", t.Type(), err)
		}
		for (len(b)-at)%word != 0 {
			b = append(b, 0)
		}
		if n := len(b) - start; n > MaxLen {
			return nil, fmt.Errorf("encoding Convert message: %d bytes, at most %d fit", n, MaxLen)
		}
		b[at+1] = byte((len(b) - at) / word)
	}
	b[start+1] = byte((len(b) - start) / word)
	return b, nil
}

// Parse decodes the message at the start of b and returns its length in bytes,
// n; user data may follow it in b. The byte slices in m share b's memory.
//
// The error is a [*ShortError] when b ends before the message does, and a
// [*ProtocolError] when b does not hold a valid message.
func Parse(b []byte) (m Message, n int, err error) {
	n, err = messageLen(b)
	if err != nil {
		return Message{}, 0, err
	}
	if len(b) < n {
		return Message{}, 0, &ShortError{Need: n}
	}
	m, err = parseTLVs(b[:n])
	if err != nil {
		return Message{}, 0, err
	}
	return m, n, nil
}

// Read reads one message from r and not a byte more. It returns io.EOF if r
// ends before the message, io.ErrUnexpectedEOF if r ends within it, and a
// [*ProtocolError] if it is not valid; each may be wrapped.
func Read(r io.Reader) (Message, error) {
	b, err := Receive(r)
	if err != nil {
		return Message{}, err
	}
	return parseTLVs(b)
}

// Receive is Read without decoding the TLVs: it returns the bytes of the
// message, for [Parse].
func Receive(r io.Reader) ([]byte, error) {
	b := make([]byte, headerLen, room)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("reading Convert header: %w", err)
	}
	n, err := messageLen(b)
	if err != nil {
		return nil, err
	}
	if n > cap(b) {
		b = append(make([]byte, 0, n), b...)
	}
	b = b[:n]
	if _, err := io.ReadFull(r, b[headerLen:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading Convert TLVs: %w", err)
	}
	return b, nil
}

// messageLen checks the fixed header (RFC 8803, section 6.1) and returns the
// length it announces in bytes. The magic number comes first: what lacks it is
// not Convert of any version and deserves no answer.
func messageLen(b []byte) (int, error) {
	if len(b) < headerLen {
		return 0, &ShortError{Need: headerLen}
	}
	if m := binary.BigEndian.Uint16(b[2:]); m != magic {
		return 0, &ProtocolError{Reason: fmt.Sprintf("magic number %#04x", m)}
	}
	if v := b[0]; v != Version {
		return 0, &ProtocolError{
			Reason: fmt.Sprintf("version %d", v),
			Reply:  &Error{Code: UnsupportedVersion, Value: []byte{Version}},
		}
	}
	if b[1] == 0 {
		return 0, &ProtocolError{Reason: "total length 0"}
	}
	return int(b[1]) * word, nil
}

func parseTLVs(msg []byte) (Message, error) {
	if len(msg) == headerLen {
		return Message{}, nil
	}
	m := Message{TLVs: make([]TLV, 0, 2)}
	for b := msg[headerLen:]; len(b) > 0; {
		typ, n := Type(b[0]), int(b[1])*word
		if n == 0 || n > len(b) {
			return Message{}, malformed(msg, "%v TLV of %d bytes where %d are left", typ, n, len(b))
		}
		if contains(m.TLVs, typ) {
			return Message{}, malformed(msg, "two %v TLVs", typ)
		}
		parse := parsers[typ]
		if parse == nil {
			return Message{}, &ProtocolError{
				Reason: fmt.Sprintf("%v TLV", typ),
				Reply:  echo(UnsupportedMessage, msg),
			}
		}
		t, err := parse(b[2:n:n])
		if err != nil {
			return Message{}, malformed(msg, "%v TLV: %v", typ, err)
		}
		m.TLVs = append(m.TLVs, t)
		b = b[n:]
	}
	return m, nil
}

func contains(tlvs []TLV, typ Type) bool {
	for _, t := range tlvs {
		if t.Type() == typ {
			return true
		}
	}
	return false
}
