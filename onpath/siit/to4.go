// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"encoding/binary"

	"braid/onpath/checksum"
)

// Translate6to4 translates an IPv6 packet for us, or with Outward from us, (RFC 7915, 5) into dst, of
// which it needs len(src)+Growth bytes, and returns the length of the result.
// The error is one of the reasons above.
//
// Packets that are not fragments have DF set and the identification 0
// (RFC 6864, 4.1): they end at this host, and nobody needs the one that
// RFC 7915 would make up for small ones.
func (t *Translator) Translate6to4(dst, src []byte) (int, error) {
	if len(dst) < len(src)+Growth {
		return 0, ErrBuffer
	}
	if len(src) < header6 {
		return 0, ErrMalformed
	}
	ours, other := src[24:40], src[8:24]
	if t.Outward {
		ours, other = other, ours
	}
	if string(ours) != string(t.ipv6[:]) || string(other) == string(t.ipv6[:]) {
		return 0, ErrForeign
	}
	return t.packet4(dst, src, false)
}

// packet4 translates an IPv6 packet, or what an ICMP error holds of one.
func (t *Translator) packet4(dst, src []byte, quoted bool) (n int, err error) {
	if len(src) < header6 || src[0]>>4 != 6 {
		return 0, ErrMalformed
	}
	total := header6 + int(binary.BigEndian.Uint16(src[4:]))
	if total > len(src) && !quoted {
		return 0, ErrMalformed
	}
	src = src[:min(total, len(src))]
	c, err := skip(src)
	if err != nil {
		return 0, err
	}
	payload, length := src[c.end:], total-c.end
	if length < 0 || header4+length > 0xffff {
		return 0, ErrMalformed
	}
	proto := c.proto
	if proto == protoICMPv6 {
		proto = protoICMP
	}

	dst[0], dst[1] = 4<<4|header4/4, src[0]<<4|src[1]>>4
	binary.BigEndian.PutUint16(dst[2:], uint16(header4+length))
	binary.BigEndian.PutUint32(dst[4:], c.fragment)
	dst[8], dst[9], dst[10], dst[11] = src[7], proto, 0, 0
	err = t.address4(dst[12:16], src[8:24])
	if err != nil && proto == protoICMP && isError6(payload) && !quoted {
		err = nil
		copy(dst[12:], dummy4[:])
	}
	if err == nil {
		err = t.address4(dst[16:20], src[24:40])
	}
	if err != nil {
		return 0, err
	}

	switch {
	case proto == protoICMP && c.fragment&(moreFragments|offsetMask) != 0:
		return 0, ErrUnsupported
	case proto == protoICMP:
		n, err = t.message4(dst, payload, src[8:40], length, quoted)
	default:
		n = copy(dst[header4:], payload)
		if c.fragment&offsetMask != 0 {
			break
		}
		if n < minimum(proto) && !quoted {
			return 0, ErrMalformed
		}
		transport(dst[header4:header4+n], proto, checksum.Sum(src[8:40]), checksum.Sum(dst[12:20]))
		if proto == protoTCP && t.MSS != 0 && !quoted {
			clamp(dst[header4:header4+n], t.MSS)
		}
	}
	binary.BigEndian.PutUint16(dst[10:], checksum.Of(checksum.Sum(dst[:header4])))
	return header4 + n, err
}

// chain is what comes of a chain of extension headers.
type chain struct {
	proto    byte
	end      int    // where the payload begins
	fragment uint32 // identification, flags and offset as in IPv4
	isPiece  bool   // there is a fragment header
}

// skip goes through the extension headers that say nothing in IPv4.
func skip(src []byte) (chain, error) {
	c := chain{proto: src[6], end: header6, fragment: dontFragment}
	for {
		h := src[c.end:]
		switch c.proto {
		case protoHopByHop, protoOptions, protoRouting, protoFragment:
			if len(h) < 8 {
				return chain{}, ErrMalformed
			}
		case protoICMP, protoIGMP, protoNone:
			return chain{}, ErrUnsupported
		default:
			return c, nil
		}
		switch {
		case c.proto != protoFragment:
			if c.proto == protoRouting && h[3] != 0 { // segments left
				return chain{}, ErrUnsupported
			}
			c.end += (int(h[1]) + 1) * 8
		case c.isPiece:
			return chain{}, ErrMalformed
		default:
			f := binary.BigEndian.Uint16(h[2:])
			c.isPiece = true
			c.fragment = binary.BigEndian.Uint32(h[4:])<<16 | uint32(f&1<<13|f>>3)
			c.end += headerFrag
		}
		if c.end > len(src) {
			return chain{}, ErrMalformed
		}
		c.proto = h[0]
		if c.fragment&offsetMask != 0 {
			return c, nil // what follows is no header
		}
	}
}
