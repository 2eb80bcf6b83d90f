// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"encoding/binary"

	"braid/onpath/checksum"
)

// minimum is how much of a protocol's header a first fragment has to hold.
func minimum(proto byte) int {
	switch proto {
	case protoTCP:
		return headerTCP
	case protoUDP:
		return headerUDP
	}
	return 0
}

const (
	headerTCP = 20
	headerUDP = 8
	// Where the checksums are.
	checksumTCP = 16
	checksumUDP = 6
)

// transport updates the checksum of a transport protocol, of which b is what
// there is of the first fragment, after the addresses have changed. If it has
// none that the addresses are part of, or an ICMP error has cut it off, there
// is nothing to do.
func transport(b []byte, proto byte, went, came uint64) {
	switch {
	case proto == protoTCP && len(b) >= checksumTCP+2:
		checksum.Adjust(b[checksumTCP:], went, came)
	case proto == protoUDP && len(b) >= headerUDP && binary.BigEndian.Uint16(b[checksumUDP:]) != 0:
		checksum.Adjust(b[checksumUDP:], went, came)
		noZero(b[checksumUDP:])
	}
}

// noZero keeps a UDP checksum from being the 0 that says there is none.
func noZero(b []byte) {
	if binary.BigEndian.Uint16(b) == 0 {
		binary.BigEndian.PutUint16(b, 0xffff)
	}
}

// MSS is the maximum segment size of TCP in IPv6 packets of mtu bytes.
func MSS(mtu int) uint16 { return uint16(min(mtu, 0xffff) - header6 - headerTCP) }

// clamp lowers the maximum segment size in a SYN (RFC 9293, 3.7.1).
func clamp(tcp []byte, mss uint16) {
	const flagSYN, end, nop, kind, length = 2, 0, 1, 2, 4
	header := int(tcp[12]>>4) * 4
	if tcp[13]&flagSYN == 0 || header > len(tcp) {
		return
	}
	for at := headerTCP; at+length <= header && tcp[at] != end; {
		switch {
		case tcp[at] == nop:
			at++
			continue
		case tcp[at+1] < 2:
			return
		case tcp[at] == kind && tcp[at+1] == length && binary.BigEndian.Uint16(tcp[at+2:]) > mss:
			words := tcp[(at+2)&^1 : (at+5)&^1] // it may lie across two
			went := checksum.Sum(words)
			binary.BigEndian.PutUint16(tcp[at+2:], mss)
			checksum.Adjust(tcp[checksumTCP:], went, checksum.Sum(words))
			return
		}
		at += int(tcp[at+1])
	}
}
