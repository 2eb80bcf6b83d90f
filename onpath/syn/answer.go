// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package syn

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"braid/onpath/checksum"
)

// Accept lets the SYN go on to the proxy's listener. What came from a virtual
// device may have had its checksum left to hardware.
func (h *Holder) Accept(s SYN) error {
	tcp := s.packet[s.tcp:]
	binary.BigEndian.PutUint16(tcp[16:], 0)
	binary.BigEndian.PutUint16(tcp[16:], checksum.Of(pseudo(s.Src.Addr(), s.Dst.Addr(), unix.IPPROTO_TCP, len(tcp))+checksum.Sum(tcp)))
	return h.ways[s.Way].back.Send(s.packet, s.Dst.Addr())
}

// Refuse answers as a server does whose port is closed (RFC 9293 section
// 3.10.7.1).
func (h *Holder) Refuse(s SYN) error {
	const tcpLen = 20
	tcp := make([]byte, tcpLen)
	binary.BigEndian.PutUint16(tcp[0:], s.Dst.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Src.Port())
	binary.BigEndian.PutUint32(tcp[8:], binary.BigEndian.Uint32(s.packet[s.tcp+4:])+1)
	tcp[12] = tcpLen / 4 << 4
	tcp[13] = 0x14 // RST, ACK
	return h.answer(s, unix.IPPROTO_TCP, tcp, 16)
}

// Unreachable answers as a router does that has no way to the server: host
// unreachable (RFC 792), address unreachable (RFC 4443 section 3.1).
func (h *Holder) Unreachable(s SYN) error {
	// The SYN's headers, as much of them as tells the host which it was.
	quoted := s.packet[:min(len(s.packet), s.tcp+20)]
	if s.Dst.Addr().Is6() {
		const addressUnreachable = 3
		return h.answer(s, unix.IPPROTO_ICMPV6, append([]byte{1, addressUnreachable, 0, 0, 0, 0, 0, 0}, quoted...), 2)
	}
	const hostUnreachable = 1
	return h.answer(s, unix.IPPROTO_ICMP, append([]byte{3, hostUnreachable, 0, 0, 0, 0, 0, 0}, quoted...), 2)
}

// answer sends payload, whose checksum stands at sum, from the SYN's
// destination to its source.
func (h *Holder) answer(s SYN, proto byte, payload []byte, sum int) error {
	src, dst := s.Dst.Addr(), s.Src.Addr()
	const ttl = 64
	if dst.Is4() {
		partial := uint64(0)
		if proto == unix.IPPROTO_TCP {
			partial = pseudo(src, dst, proto, len(payload))
		}
		binary.BigEndian.PutUint16(payload[sum:], checksum.Of(partial+checksum.Sum(payload)))
		ip := make([]byte, 20, 20+len(payload))
		ip[0], ip[8], ip[9] = 0x45, ttl, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)))
		copy(ip[12:], src.AsSlice())
		copy(ip[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(checksum.Sum(ip)))
		return h.toLAN.Send(append(ip, payload...), dst)
	}
	binary.BigEndian.PutUint16(payload[sum:], checksum.Of(pseudo(src, dst, proto, len(payload))+checksum.Sum(payload)))
	ip := make([]byte, 40, 40+len(payload))
	ip[0], ip[6], ip[7] = 0x60, proto, ttl
	binary.BigEndian.PutUint16(ip[4:], uint16(len(payload)))
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	return h.toLAN.Send(append(ip, payload...), dst)
}

// pseudo is the sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200
// section 8.1).
func pseudo(src, dst netip.Addr, proto byte, n int) uint64 {
	return checksum.Sum(src.AsSlice()) + checksum.Sum(dst.AsSlice()) + checksum.Pseudo(n, proto)
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
