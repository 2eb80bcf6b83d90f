// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package segment reads and makes TCP segments, of IPv4 and IPv6.
package segment

import (
	"encoding/binary"
	"net/netip"

	"braid/onpath/checksum"
)

// Flags of a TCP header.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

const (
	protoTCP    = 6
	headerTCP   = 20
	headerIPv4  = 20
	headerIPv6  = 40
	checksumAt  = 16
	optionNop   = 1
	hops        = 64
	fragmentBit = 0x3fff // offset, and that more follow
)

// Segment is what is looked at of a TCP segment.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    byte
	Window   uint16
	Options  []byte
	Length   int // of the payload, in bytes
}

// End is the sequence number that follows the segment.
func (s *Segment) End() uint32 {
	n := s.Seq + uint32(s.Length)
	if s.Flags&SYN != 0 {
		n++
	}
	if s.Flags&FIN != 0 {
		n++
	}
	return n
}

// split finds the TCP header and all that follows in a packet, which may have
// been cut off behind it, the sum of the addresses, and how long it was.
func split(b []byte) (src, dst netip.Addr, tcp []byte, length int, ok bool) {
	switch {
	case len(b) >= headerIPv4 && b[0]>>4 == 4 && b[9] == protoTCP:
		head := int(b[0]&15) * 4
		if head < headerIPv4 || len(b) < head || binary.BigEndian.Uint16(b[6:])&fragmentBit != 0 {
			return
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		tcp, length = b[head:], int(binary.BigEndian.Uint16(b[2:]))-head
	case len(b) >= headerIPv6 && b[0]>>4 == 6 && b[6] == protoTCP:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		tcp, length = b[headerIPv6:], int(binary.BigEndian.Uint16(b[4:]))
	default:
		return
	}
	return src, dst, tcp, length, len(tcp) >= headerTCP
}

// Parse reads a packet from its IP header on, of which the payload may have been
// cut off. It says whether that is a whole TCP header. The options are a part of
// the packet.
func Parse(b []byte) (s Segment, ok bool) {
	src, dst, tcp, length, ok := split(b)
	if !ok {
		return s, false
	}
	head := int(tcp[12]>>4) * 4
	if head < headerTCP || len(tcp) < head || length < head {
		return s, false
	}
	return Segment{
		Src:     netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
		Dst:     netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		Seq:     binary.BigEndian.Uint32(tcp[4:]),
		Ack:     binary.BigEndian.Uint32(tcp[8:]),
		Flags:   tcp[13],
		Window:  binary.BigEndian.Uint16(tcp[14:]),
		Options: tcp[headerTCP:head],
		Length:  length - head,
	}, true
}

// Build makes the packet of a segment without payload. The options have 40 bytes
// at most.
func (s *Segment) Build() []byte {
	n := headerTCP + (len(s.Options)+3)&^3
	tcp := make([]byte, n)
	binary.BigEndian.PutUint16(tcp, s.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.Seq)
	binary.BigEndian.PutUint32(tcp[8:], s.Ack)
	tcp[12], tcp[13] = byte(n/4<<4), s.Flags
	binary.BigEndian.PutUint16(tcp[14:], s.Window)
	for i := headerTCP + copy(tcp[headerTCP:], s.Options); i < n; i++ {
		tcp[i] = optionNop
	}
	sign(tcp, s.Src.Addr(), s.Dst.Addr())
	from, to := s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice()
	if s.Dst.Addr().Is4() {
		ip := make([]byte, headerIPv4, headerIPv4+n)
		ip[0], ip[6], ip[8], ip[9] = 4<<4|headerIPv4/4, 0x40, hops, protoTCP // DF
		binary.BigEndian.PutUint16(ip[2:], uint16(headerIPv4+n))
		copy(ip[12:], from)
		copy(ip[16:], to)
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(checksum.Sum(ip)))
		return append(ip, tcp...)
	}
	ip := make([]byte, headerIPv6, headerIPv6+n)
	ip[0], ip[6], ip[7] = 6<<4, protoTCP, hops
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	copy(ip[8:], from)
	copy(ip[24:], to)
	return append(ip, tcp...)
}

// Sign computes the TCP checksum of a whole packet: one that was seen on its way
// may have had it left to hardware.
func Sign(packet []byte) {
	if src, dst, tcp, length, ok := split(packet); ok && length >= headerTCP && length <= len(tcp) {
		sign(tcp[:length], src, dst)
	}
}

func sign(tcp []byte, src, dst netip.Addr) {
	sum := tcp[checksumAt : checksumAt+2]
	sum[0], sum[1] = 0, 0
	pseudo := checksum.Sum(src.AsSlice()) + checksum.Sum(dst.AsSlice()) + checksum.Pseudo(len(tcp), protoTCP)
	binary.BigEndian.PutUint16(sum, checksum.Of(pseudo+checksum.Sum(tcp)))
}
