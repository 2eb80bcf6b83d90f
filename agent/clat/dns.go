// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"braid/onpath/siit"
)

// wellKnownName has IPv4 addresses only. An IPv6 address of it was made by a
// DNS64, with the prefix of the network's NAT64 (RFC 7050).
const wellKnownName = "\x08ipv4only\x04arpa\x00"

// wellKnown4 are its addresses.
var wellKnown4 = [...]netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// ErrNone says that a network has no NAT64, or none that it tells of.
var ErrNone = errors.New("no NAT64")

const (
	typeAAAA = 28
	classIN  = 1

	headerDNS = 12
	isAnswer  = 0x8000
	recursion = 0x0100 // desired
	nxDomain  = 3
	rcodeMask = 0xf
)

// question asks for IPv6 addresses of the well-known name (RFC 1035, 4).
func question(id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, recursion)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, wellKnownName...)
	return append(b, 0, typeAAAA, 0, classIN)
}

// parseAnswer reads the prefix from an answer to question. The error is ErrNone
// if the answer says so.
func parseAnswer(b []byte, id uint16) (NAT64, error) {
	if len(b) < headerDNS {
		return NAT64{}, errDNS
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if binary.BigEndian.Uint16(b) != id || flags&isAnswer == 0 || binary.BigEndian.Uint16(b[4:]) != 1 {
		return NAT64{}, errDNS
	}
	switch rcode := flags & rcodeMask; rcode {
	case 0:
	case nxDomain:
		return NAT64{}, ErrNone
	default:
		return NAT64{}, fmt.Errorf("DNS error %d", rcode)
	}
	at, ok := skipName(b, headerDNS)
	at += 4
	for range binary.BigEndian.Uint16(b[6:]) {
		if !ok {
			return NAT64{}, errDNS
		}
		if at, ok = skipName(b, at); !ok || at+10 > len(b) {
			return NAT64{}, errDNS
		}
		r := b[at:]
		data := at + 10
		at = data + int(binary.BigEndian.Uint16(r[8:]))
		if at > len(b) {
			return NAT64{}, errDNS
		}
		if binary.BigEndian.Uint32(r) == typeAAAA<<16|classIN && at-data == 16 {
			if p, ok := prefixOf([16]byte(b[data:at])); ok {
				ttl := time.Duration(binary.BigEndian.Uint32(r[4:])) * time.Second
				return NAT64{Prefix: p, Lifetime: max(ttl, minLifetime), Origin: OriginDNS}, nil
			}
		}
	}
	return NAT64{}, ErrNone
}

var errDNS = errors.New("malformed DNS answer")

// skipName finds the end of a name.
func skipName(b []byte, at int) (int, bool) {
	for at < len(b) {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1, true
		case n >= 0xc0: // goes on elsewhere
			return at + 2, true
		default:
			at += 1 + n
		}
	}
	return 0, false
}

// prefixOf finds the prefix before a well-known IPv4 address. An address that
// could be read in two ways says nothing (RFC 7050, 3).
func prefixOf(a [16]byte) (prefix netip.Prefix, ok bool) {
	found := 0
	for _, bits := range []int{96, 64, 56, 48, 40, 32} {
		p := netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
		if ipv4, err := siit.Extract(p, netip.AddrFrom16(a)); err == nil && slices.Contains(wellKnown4[:], ipv4) {
			prefix = p
			found++
		}
	}
	return prefix, found == 1
}
