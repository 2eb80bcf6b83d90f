// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"encoding/binary"
	"net/netip"

	"braid/onpath/checksum"
)

// Flags of a TCP header.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// Kinds of TCP options.
const (
	optionEnd   = 0
	optionNop   = 1
	optionMPTCP = 30
)

// Subtypes of the MPTCP option (RFC 8684 section 8).
const (
	subtypeCapable = 0
	subtypeJoin    = 1
	subtypeDSS     = 2
	subtypeAddAddr = 3
)

// version is the one of MPTCP that is understood (RFC 8684 section 3.1).
const version = 1

const (
	protoTCP   = 6
	headerTCP  = 20
	headerIPv4 = 20
	headerIPv6 = 40
	maxOptions = 40
)

// Key is what one end of a connection has chosen at random (RFC 8684 section
// 3.1).
type Key [8]byte

// segment is what is needed of a TCP segment of IPv4 or IPv6.
type segment struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    byte
	window   uint16
	length   uint32 // of the payload, in bytes

	keys       bool // MP_CAPABLE with both keys: the third packet, or first data
	sender     Key
	receiver   Key
	join       bool // MP_JOIN of a SYN
	token      uint32
	dss        bool // there is a Data Sequence Signal
	echo       bool // of an ADD_ADDR
	echoed     uint8
	unreliable bool // its options do not parse to their end
}

// end is the sequence number that follows the segment.
func (s *segment) end() uint32 {
	n := s.seq + s.length
	if s.flags&flagSYN != 0 {
		n++
	}
	if s.flags&flagFIN != 0 {
		n++
	}
	return n
}

// parse reads a packet from its IP header on, of which the payload may have
// been cut off. It says whether that is a whole TCP header.
func parse(b []byte) (s segment, ok bool) {
	var tcp []byte
	var src, dst netip.Addr
	var total int
	switch {
	case len(b) >= headerIPv4 && b[0]>>4 == 4 && b[9] == protoTCP:
		head := int(b[0]&15) * 4
		if head < headerIPv4 || len(b) < head || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // a fragment
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		tcp, total = b[head:], int(binary.BigEndian.Uint16(b[2:]))-head
	case len(b) >= headerIPv6 && b[0]>>4 == 6 && b[6] == protoTCP:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		tcp, total = b[headerIPv6:], int(binary.BigEndian.Uint16(b[4:]))
	default:
		return s, false
	}
	if len(tcp) < headerTCP {
		return s, false
	}
	head := int(tcp[12]>>4) * 4
	if head < headerTCP || len(tcp) < head || total < head {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	s.seq, s.ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	s.flags, s.window = tcp[13], binary.BigEndian.Uint16(tcp[14:])
	s.length = uint32(total - head)
	s.options(tcp[headerTCP:head])
	return s, true
}

func (s *segment) options(o []byte) {
	for len(o) > 0 && o[0] != optionEnd {
		if o[0] == optionNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			s.unreliable = true
			return
		}
		if o[0] == optionMPTCP && o[1] >= 4 {
			s.mptcp(o[:o[1]])
		}
		o = o[o[1]:]
	}
}

// mptcp reads an MPTCP option of at least four bytes.
func (s *segment) mptcp(o []byte) {
	switch subtype := o[2] >> 4; {
	case subtype == subtypeCapable && s.flags&flagSYN == 0 && o[2]&15 == version && len(o) >= 20: // 22 or 24 with data (section 3.1)
		s.keys, s.sender, s.receiver = true, Key(o[4:12]), Key(o[12:20])
	case subtype == subtypeJoin && s.flags&(flagSYN|flagACK) == flagSYN && len(o) == 12:
		s.join, s.token = true, binary.BigEndian.Uint32(o[4:])
	case subtype == subtypeDSS:
		s.dss = true
	case subtype == subtypeAddAddr:
		s.echo, s.echoed = o[2]&1 != 0, o[3]
	}
}

// build makes a pure acknowledgement with options, of both families.
func build(src, dst netip.AddrPort, seq, ack uint32, window uint16, options []byte) []byte {
	n := headerTCP + (len(options)+3)&^3
	tcp := make([]byte, n)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = byte(n/4<<4), flagACK
	binary.BigEndian.PutUint16(tcp[14:], window)
	for i := headerTCP + copy(tcp[headerTCP:], options); i < n; i++ {
		tcp[i] = optionNop
	}
	from, to := src.Addr().AsSlice(), dst.Addr().AsSlice()
	sum := checksum.Sum(from) + checksum.Sum(to) + checksum.Pseudo(n, protoTCP) + checksum.Sum(tcp)
	binary.BigEndian.PutUint16(tcp[16:], checksum.Of(sum))

	const hops = 64
	if dst.Addr().Is4() {
		ip := make([]byte, headerIPv4, headerIPv4+n)
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, hops, protoTCP // DF
		binary.BigEndian.PutUint16(ip[2:], uint16(headerIPv4+n))
		copy(ip[12:], from)
		copy(ip[16:], to)
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(checksum.Sum(ip)))
		return append(ip, tcp...)
	}
	ip := make([]byte, headerIPv6, headerIPv6+n)
	ip[0], ip[6], ip[7] = 0x60, protoTCP, hops
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	copy(ip[8:], from)
	copy(ip[24:], to)
	return append(ip, tcp...)
}
