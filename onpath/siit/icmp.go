// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"encoding/binary"

	"braid/onpath/checksum"
)

// Types of ICMP messages (RFC 792).
const (
	echoReply4    = 0
	unreachable4  = 3
	echoRequest4  = 8
	timeExceeded4 = 11
	parameter4    = 12
)

// Types of ICMPv6 messages (RFC 4443). Those below 128 are errors.
const (
	unreachable6  = 1
	tooBig6       = 2
	timeExceeded6 = 3
	parameter6    = 4
	echoRequest6  = 128
	echoReply6    = 129
)

const (
	headerICMP = 8
	// An ICMP error is no longer than what every path of its family carries
	// (RFC 1812, 4.3.2.3; RFC 4443, 2.4).
	maxError4 = 576
	maxError6 = 1280
)

// none marks what has no translation.
const none = 0xff

// message6 translates an ICMP message into the one behind the header at dst.
// length is that of the message before an ICMP error cut it.
func (t *Translator) message6(dst, src []byte, length int, quoted bool) (int, error) {
	if len(src) < headerICMP {
		return 0, ErrMalformed
	}
	body, came := dst[header6:], checksum.Sum(dst[8:40])
	if src[0] == echoRequest4 || src[0] == echoReply4 {
		n := copy(body, src)
		body[0] = echoRequest6
		if src[0] == echoReply4 {
			body[0] = echoReply6
		}
		checksum.Adjust(body[2:], checksum.Sum(src[:2]), checksum.Sum(body[:2])+came+checksum.Pseudo(length, protoICMPv6))
		return n, nil
	}
	if quoted {
		return 0, ErrUnsupported // an error about an error
	}
	cause := src[headerICMP:]
	if l := int(src[5]) * 4; l != 0 { // extensions follow (RFC 4884)
		cause = cause[:min(l, len(cause))]
	}
	typ, code, value, ok := error6(src, cause)
	if !ok {
		return 0, ErrUnsupported
	}
	n, err := t.packet6(body[headerICMP:], cause, true)
	if err != nil {
		return 0, err
	}
	n = min(headerICMP+n, maxError6-header6)
	binary.BigEndian.PutUint16(dst[4:], uint16(n))
	body[0], body[1], body[2], body[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(body[4:], value)
	binary.BigEndian.PutUint16(body[2:], checksum.Of(checksum.Sum(body[:n])+came+checksum.Pseudo(n, protoICMPv6)))
	return n, nil
}

// error6 says what an ICMP error is in IPv6 (RFC 7915, 4.2).
func error6(src, cause []byte) (typ, code byte, value uint32, ok bool) {
	switch src[0] {
	case unreachable4:
		switch src[1] {
		case 0, 1, 5, 6, 7, 8, 11, 12:
			return unreachable6, 0, 0, true
		case 2:
			return parameter6, 1, 6, true // the next header field
		case 3:
			return unreachable6, 4, 0, true
		case 4:
			return tooBig6, 0, mtu6(int(binary.BigEndian.Uint16(src[6:])), cause), true
		case 9, 10, 13, 15:
			return unreachable6, 1, 0, true
		}
	case timeExceeded4:
		return timeExceeded6, src[1], 0, true
	case parameter4:
		if p := pointer(pointers6[:], uint32(src[4])); (src[1] == 0 || src[1] == 2) && p != none {
			return parameter6, 0, uint32(p), true
		}
	}
	return 0, 0, 0, false
}

// plateaus are the sizes that routers of old may have meant (RFC 1191, 7).
var plateaus = [...]int{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

func mtu6(mtu int, cause []byte) uint32 {
	if mtu == 0 && len(cause) >= header4 {
		total := int(binary.BigEndian.Uint16(cause[2:]))
		for _, p := range plateaus {
			if p < total {
				mtu = p
				break
			}
		}
	}
	return uint32(max(maxError6, mtu+header6-header4))
}

// pointers6 are the fields of IPv6 by the octet of the IPv4 header
// (RFC 7915, figure 3).
var pointers6 = [...]byte{0, 1, 4, 4, none, none, none, none, 7, 6, none, none, 8, 8, 8, 8, 24, 24, 24, 24}

// pointers4 are the fields of IPv4 by the octet of the IPv6 header
// (RFC 7915, figure 6).
var pointers4 = [...]byte{0, 1, none, none, 2, 2, 9, 8,
	12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
	16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16}

func pointer(table []byte, p uint32) byte {
	if p >= uint32(len(table)) {
		return none
	}
	return table[p]
}

// message4 translates an ICMPv6 message into the one behind the header at
// dst. addresses are those of the IPv6 header.
func (t *Translator) message4(dst, src, addresses []byte, length int, quoted bool) (int, error) {
	if len(src) < headerICMP {
		return 0, ErrMalformed
	}
	body := dst[header4:]
	if src[0] == echoRequest6 || src[0] == echoReply6 {
		n := copy(body, src)
		body[0] = echoRequest4
		if src[0] == echoReply6 {
			body[0] = echoReply4
		}
		checksum.Adjust(body[2:], checksum.Sum(src[:2])+checksum.Sum(addresses)+checksum.Pseudo(length, protoICMPv6), checksum.Sum(body[:2]))
		return n, nil
	}
	if quoted {
		return 0, ErrUnsupported
	}
	cause := src[headerICMP:]
	if l := int(src[4]) * 8; l != 0 && (src[0] == unreachable6 || src[0] == timeExceeded6) {
		cause = cause[:min(l, len(cause))]
	}
	typ, code, value, ok := error4(src, cause)
	if !ok {
		return 0, ErrUnsupported
	}
	n, err := t.packet4(body[headerICMP:], cause, true)
	if err != nil {
		return 0, err
	}
	n = min(headerICMP+n, maxError4-header4)
	binary.BigEndian.PutUint16(dst[2:], uint16(header4+n))
	body[0], body[1], body[2], body[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(body[4:], value)
	binary.BigEndian.PutUint16(body[2:], checksum.Of(checksum.Sum(body[:n])))
	return n, nil
}

func isError6(message []byte) bool { return len(message) > 0 && message[0] < 128 }

// error4 says what an ICMPv6 error is in IPv4 (RFC 7915, 5.2).
func error4(src, cause []byte) (typ, code byte, value uint32, ok bool) {
	switch src[0] {
	case unreachable6:
		codes := [...]byte{1, 10, 1, 1, 3}
		if int(src[1]) < len(codes) {
			return unreachable4, codes[src[1]], 0, true
		}
	case tooBig6:
		return unreachable4, 4, mtu4(binary.BigEndian.Uint32(src[4:]), cause), true
	case timeExceeded6:
		return timeExceeded4, src[1], 0, true
	case parameter6:
		if src[1] == 1 {
			return unreachable4, 2, 0, true
		}
		if p := pointer(pointers4[:], binary.BigEndian.Uint32(src[4:])); src[1] == 0 && p != none {
			return parameter4, 0, uint32(p) << 24, true
		}
	}
	return 0, 0, 0, false
}

func mtu4(mtu uint32, cause []byte) uint32 {
	head := uint32(header6 - header4)
	if len(cause) >= header6 && cause[6] == protoFragment {
		head += headerFrag
	}
	return min(max(mtu, head)-head, 0xffff)
}
