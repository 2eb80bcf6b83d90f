// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package syn

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"braid/onpath/checksum"
	"braid/onpath/segment"
)

// Accept lets the SYN go on to the proxy's listener. What came from a virtual
// device may have had its checksum left to hardware.
func (h *Holder) Accept(s SYN) error {
	segment.Sign(s.packet)
	return h.ways[s.Way].back.Send(s.packet, s.Dst.Addr())
}

// Refuse answers as a server does whose port is closed (RFC 9293 section
// 3.10.7.1).
func (h *Holder) Refuse(s SYN) error {
	r := segment.Segment{Src: s.Dst, Dst: s.Src, Ack: binary.BigEndian.Uint32(s.packet[s.tcp+4:]) + 1, Flags: segment.RST | segment.ACK}
	return h.toLAN.Send(r.Build(), s.Src.Addr())
}

// Unreachable answers as a router does that has no way to the server: host
// unreachable (RFC 792), address unreachable (RFC 4443 section 3.1).
func (h *Holder) Unreachable(s SYN) error {
	// The SYN's headers, as much of them as tells the host which it was.
	quoted := s.packet[:min(len(s.packet), s.tcp+20)]
	if s.Dst.Addr().Is6() {
		const addressUnreachable = 3
		return h.answer(s, unix.IPPROTO_ICMPV6, append([]byte{1, addressUnreachable, 0, 0, 0, 0, 0, 0}, quoted...))
	}
	const hostUnreachable = 1
	return h.answer(s, unix.IPPROTO_ICMP, append([]byte{3, hostUnreachable, 0, 0, 0, 0, 0, 0}, quoted...))
}

// answer sends an ICMP message, whose checksum is to be filled in, from the
// SYN's destination to its source.
func (h *Holder) answer(s SYN, proto byte, message []byte) error {
	const ttl, sum = 64, 2
	src, dst := s.Dst.Addr(), s.Src.Addr()
	if dst.Is4() {
		binary.BigEndian.PutUint16(message[sum:], checksum.Of(checksum.Sum(message)))
		ip := make([]byte, 20, 20+len(message))
		ip[0], ip[8], ip[9] = 0x45, ttl, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(message)))
		copy(ip[12:], src.AsSlice())
		copy(ip[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(checksum.Sum(ip)))
		return h.toLAN.Send(append(ip, message...), dst)
	}
	pseudo := checksum.Sum(src.AsSlice()) + checksum.Sum(dst.AsSlice()) + checksum.Pseudo(len(message), proto) // RFC 8200, 8.1
	binary.BigEndian.PutUint16(message[sum:], checksum.Of(pseudo+checksum.Sum(message)))
	ip := make([]byte, 40, 40+len(message))
	ip[0], ip[6], ip[7] = 0x60, proto, ttl
	binary.BigEndian.PutUint16(ip[4:], uint16(len(message)))
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	return h.toLAN.Send(append(ip, message...), dst)
}

func loopback() (int, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Index, nil
		}
	}
	return 0, fmt.Errorf("no loopback device")
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
