// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"encoding/binary"
	"iter"
)

// Pieces are the packets as which the translation of an IPv4 packet goes on over
// a link with an MTU of 1280 or more bytes: in fragments, if it is too big and
// the original might have been cut. One that must not be goes as it is: the
// next router, or the kernel, tells its sender. Each is valid until the next.
func Pieces(packet, original []byte, mtu int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(packet) <= mtu || binary.BigEndian.Uint16(original[6:])&dontFragment != 0 {
			yield(packet)
			return
		}
		cut(packet, mtu, binary.BigEndian.Uint16(original[4:]), yield)
	}
}

// cut cuts an IPv6 packet, which may be a fragment already, into fragments of
// at most mtu bytes, 1280 or more (RFC 8200, 4.5). Each is valid until the
// next. id identifies the fragments of a packet that was whole.
func cut(packet []byte, mtu int, id uint16, yield func([]byte) bool) {
	piece := make([]byte, mtu)
	copy(piece, packet[:header6])
	payload, frag := packet[header6:], piece[header6:header6+headerFrag]
	if packet[6] == protoFragment {
		payload = payload[copy(frag, payload[:headerFrag]):]
	} else {
		piece[6], frag[0] = protoFragment, packet[6]
		binary.BigEndian.PutUint32(frag[4:], uint32(id))
	}
	at := binary.BigEndian.Uint16(frag[2:])
	for room := (mtu - header6 - headerFrag) &^ 7; len(payload) > 0; {
		n := copy(piece[header6+headerFrag:], payload[:min(room, len(payload))])
		payload = payload[n:]
		more := at & 1
		if len(payload) > 0 {
			more = 1
		}
		binary.BigEndian.PutUint16(piece[4:], uint16(headerFrag+n))
		binary.BigEndian.PutUint16(frag[2:], at&^7|more)
		if !yield(piece[:header6+headerFrag+n]) {
			return
		}
		at += uint16(n)
	}
}
