// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package siit translates between IPv4 and IPv6 packets without any state
// (RFC 7915), with addresses that a NAT64 prefix embeds (RFC 6052).
package siit

import (
	"errors"
	"fmt"
	"net/netip"
)

// Reasons to drop a packet.
var (
	ErrMalformed   = errors.New("malformed packet")
	ErrForeign     = errors.New("an address that is not translated")
	ErrUnsupported = errors.New("packet that has no counterpart in the other family")
	ErrBuffer      = errors.New("buffer too small")
)

// Growth is by how much a translated packet may be longer than the original,
// in bytes: an ICMP error that holds a fragment.
const Growth = (header6 - header4) + (header6 - header4) + headerFrag

const (
	header4    = 20
	header6    = 40
	headerFrag = 8
)

// Numbers of protocols and extension headers.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoNone     = 59 // no next header
	protoOptions  = 60
)

// dummy4 is the source of ICMP errors from routers that have no IPv4 address
// (RFC 7600, 4.8).
var dummy4 = [4]byte{192, 0, 0, 8}

// Translator translates packets (RFC 7915) between our own IPv4 address and
// the IPv4 hosts behind a NAT64 prefix. It holds no state.
//
// Hop limits are copied: the kernel on whose way the packets are counts them.
// ICMP errors lose what follows the original packet (RFC 4884), and fragments
// of ICMP messages have no translation (RFC 7915, 1.2).
type Translator struct {
	// MSS, if not 0, is the largest maximum segment size that passes in a SYN,
	// in bytes. Servers need not learn of the longer headers by losing packets.
	MSS uint16
	// Outward has IPv6 packets translated that come from us, and IPv4 ones for us:
	// it stands at the edge of an IPv6 network, as a NAT64 does (RFC 7915, 1.3),
	// where it else stands at a host's.
	Outward bool

	ipv4   [4]byte
	ipv6   [16]byte
	prefix layout
}

// NewTranslator makes a translator for packets from and to ipv4 on the one
// side and ipv6 on the other. An error is about the prefix and wraps ErrPrefix.
func NewTranslator(prefix netip.Prefix, ipv4, ipv6 netip.Addr) (*Translator, error) {
	l, err := newLayout(prefix)
	if err != nil {
		return nil, fmt.Errorf("translating: %w", err)
	}
	return &Translator{ipv4: ipv4.As4(), ipv6: ipv6.As16(), prefix: l}, nil
}

// address6 translates an address.
func (t *Translator) address6(ipv6, ipv4 []byte) error {
	switch {
	case string(ipv4) == string(t.ipv4[:]):
		copy(ipv6, t.ipv6[:])
	case t.prefix.global && !isGlobal(ipv4):
		return ErrForeign
	default:
		t.prefix.embed(ipv6, ipv4)
	}
	return nil
}

// address4 translates an address.
func (t *Translator) address4(ipv4, ipv6 []byte) error {
	switch {
	case string(ipv6) == string(t.ipv6[:]):
		copy(ipv4, t.ipv4[:])
	case !t.prefix.extract(ipv4, ipv6), t.prefix.global && !isGlobal(ipv4):
		return ErrForeign
	}
	return nil
}
