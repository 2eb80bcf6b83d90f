// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package checksum has the Internet's checksum (RFC 1071).
package checksum

import "encoding/binary"

// Sum adds up b as 16-bit words, for Of. A last odd octet is padded by 0; sums
// of parts add up if all but the last are even.
func Sum(b []byte) uint64 {
	var s uint64
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.BigEndian.Uint32(b))
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// Of is the checksum of what adds up to a sum.
func Of(s uint64) uint16 { return ^fold(s) }

// fold makes the one's complement sum of 16-bit words out of one of wider
// ones.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// Adjust changes the checksum at b[0:2] by words that went and that came
// (RFC 1624, equation 3).
func Adjust(b []byte, went, came uint64) {
	hc := ^binary.BigEndian.Uint16(b)
	binary.BigEndian.PutUint16(b, Of(uint64(hc)+uint64(^fold(went))+came))
}

// Pseudo is the sum of the part of the pseudo-header that is not addresses
// (RFC 9293, 3.1; RFC 8200, 8.1).
func Pseudo(length int, proto byte) uint64 { return uint64(length) + uint64(proto) }
