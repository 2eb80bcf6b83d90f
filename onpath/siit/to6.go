// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"encoding/binary"

	"braid/onpath/checksum"
)

// Flags of IPv4, with the fragment offset in the same word.
const (
	dontFragment  = 0x4000
	moreFragments = 0x2000
	offsetMask    = 0x1fff
)

// Translate4to6 translates an IPv4 packet of ours, or with Outward for us, (RFC 7915, 4) into dst, of
// which it needs len(src)+Growth bytes, and returns the length of the result.
// The error is one of the reasons above.
func (t *Translator) Translate4to6(dst, src []byte) (int, error) {
	if len(dst) < len(src)+Growth {
		return 0, ErrBuffer
	}
	if len(src) < header4 {
		return 0, ErrMalformed
	}
	ours, other := src[12:16], src[16:20]
	if t.Outward {
		ours, other = other, ours
	}
	if string(ours) != string(t.ipv4[:]) || string(other) == string(t.ipv4[:]) {
		return 0, ErrForeign
	}
	return t.packet6(dst, src, false)
}

// packet6 translates an IPv4 packet, or what an ICMP error holds of one.
func (t *Translator) packet6(dst, src []byte, quoted bool) (n int, err error) {
	if len(src) < header4 || src[0]>>4 != 4 {
		return 0, ErrMalformed
	}
	ihl, total := int(src[0]&15)*4, int(binary.BigEndian.Uint16(src[2:]))
	if ihl < header4 || total < ihl || len(src) < ihl || total > len(src) && !quoted {
		return 0, ErrMalformed
	}
	if !translatable4(src[9]) || sourceRoute(src[header4:ihl]) {
		return 0, ErrUnsupported
	}
	payload := src[ihl:min(total, len(src))]
	frag := binary.BigEndian.Uint16(src[6:])
	head, proto := header6, src[9]
	if proto == protoICMP {
		proto = protoICMPv6
	}
	if frag&(moreFragments|offsetMask) != 0 {
		head += headerFrag
	}

	length := total - ihl // of the payload before an ICMP error cut it
	binary.BigEndian.PutUint32(dst, 6<<28|uint32(src[1])<<20)
	binary.BigEndian.PutUint16(dst[4:], uint16(length+head-header6))
	dst[6], dst[7] = proto, src[8]
	if err := t.address6(dst[8:24], src[12:16]); err != nil {
		return 0, err
	}
	if err := t.address6(dst[24:40], src[16:20]); err != nil {
		return 0, err
	}
	if head > header6 {
		dst[6] = protoFragment
		dst[40], dst[41] = proto, 0
		binary.BigEndian.PutUint16(dst[42:], frag<<3|frag>>13&1)
		binary.BigEndian.PutUint32(dst[44:], uint32(binary.BigEndian.Uint16(src[4:])))
	}

	body := dst[head:]
	switch {
	case proto == protoICMPv6 && head > header6:
		return 0, ErrUnsupported
	case proto == protoICMPv6:
		n, err = t.message6(dst, payload, length, quoted)
		return head + n, err
	}
	n = copy(body, payload)
	if frag&offsetMask != 0 {
		return head + n, nil
	}
	if n < minimum(proto) && !quoted {
		return 0, ErrMalformed
	}
	came := checksum.Sum(dst[8:40])
	if proto == protoUDP && n >= headerUDP && body[6]|body[7] == 0 && !quoted {
		if head > header6 {
			return 0, ErrUnsupported // the sum over all fragments is not known
		}
		binary.BigEndian.PutUint16(body[6:], checksum.Of(checksum.Sum(body[:n])+came+checksum.Pseudo(n, protoUDP)))
		noZero(body[6:])
		return head + n, nil
	}
	transport(body[:n], proto, checksum.Sum(src[12:20]), came)
	if proto == protoTCP && t.MSS != 0 && !quoted {
		clamp(body[:n], t.MSS)
	}
	return head + n, nil
}

// translatable4 says whether a protocol means the same in IPv6. IGMP is for
// the link, and the numbers of extension headers have no meaning in IPv4.
func translatable4(proto byte) bool {
	switch proto {
	case protoIGMP, protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoNone, protoOptions:
		return false
	}
	return true
}

// sourceRoute says whether IPv4 options hold a source route that has not come
// to its end. All other options are lost.
func sourceRoute(b []byte) bool {
	const end, nop, loose, strict = 0, 1, 131, 137
	for len(b) > 0 && b[0] != end {
		if b[0] == nop {
			b = b[1:]
			continue
		}
		if len(b) < 3 || int(b[1]) < 2 || int(b[1]) > len(b) {
			return false
		}
		if (b[0] == loose || b[0] == strict) && b[2] <= b[1] {
			return true
		}
		b = b[b[1]:]
	}
	return false
}
