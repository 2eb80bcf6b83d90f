// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// wellKnown is the prefix that any network may use for NAT64 (RFC 6052, 2.1).
var wellKnown = netip.MustParsePrefix("64:ff9b::/96")

// ErrPrefix says that a prefix cannot be one of a NAT64.
var ErrPrefix = errors.New("not a NAT64 prefix of length 32, 40, 48, 56, 64 or 96")

// Embed puts an IPv4 address into a NAT64 prefix (RFC 6052, 2.2). The error
// wraps ErrPrefix.
func Embed(prefix netip.Prefix, ipv4 netip.Addr) (netip.Addr, error) {
	l, err := newLayout(prefix)
	if err != nil {
		return netip.Addr{}, err
	}
	var a [16]byte
	l.embed(a[:], ipv4.AsSlice())
	return netip.AddrFrom16(a), nil
}

// Extract takes the IPv4 address out of one behind a NAT64 prefix. The error
// wraps ErrPrefix, or ErrForeign if the address has another prefix.
func Extract(prefix netip.Prefix, ipv6 netip.Addr) (netip.Addr, error) {
	l, err := newLayout(prefix)
	if err != nil {
		return netip.Addr{}, err
	}
	var a [4]byte
	if b := ipv6.As16(); !l.extract(a[:], b[:]) {
		return netip.Addr{}, fmt.Errorf("%v: %w", ipv6, ErrForeign)
	}
	return netip.AddrFrom4(a), nil
}

// Check says whether a prefix may be one of a NAT64. The error wraps
// ErrPrefix.
func Check(prefix netip.Prefix) error {
	_, err := newLayout(prefix)
	return err
}

// layout is a NAT64 prefix and where in an address behind it the octets of the
// IPv4 address lie.
type layout struct {
	prefix [16]byte
	len    int // octets
	at     [4]uint8
	global bool // only global IPv4 addresses may be embedded
}

func newLayout(prefix netip.Prefix) (layout, error) {
	if !slices.Contains([]int{32, 40, 48, 56, 64, 96}, prefix.Bits()) || !prefix.Addr().Is6() || prefix.Addr().Is4In6() {
		return layout{}, fmt.Errorf("%v: %w", prefix, ErrPrefix)
	}
	prefix = prefix.Masked()
	l := layout{prefix: prefix.Addr().As16(), len: prefix.Bits() / 8, global: prefix == wellKnown}
	if l.prefix[reserved] != 0 {
		return layout{}, fmt.Errorf("%v: bits 64 to 71 are not 0: %w", prefix, ErrPrefix)
	}
	at := l.len
	for i := range l.at {
		if at == reserved {
			at++
		}
		l.at[i] = uint8(at)
		at++
	}
	return l, nil
}

// reserved is the octet that has to be 0 whatever the length of the prefix.
const reserved = 8

func (l *layout) embed(ipv6, ipv4 []byte) {
	copy(ipv6, l.prefix[:])
	for i, at := range l.at {
		ipv6[at] = ipv4[i]
	}
}

// extract says whether the IPv6 address has the prefix.
func (l *layout) extract(ipv4, ipv6 []byte) bool {
	if ipv6[reserved] != 0 || string(ipv6[:l.len]) != string(l.prefix[:l.len]) {
		return false
	}
	for i, at := range l.at {
		ipv4[i] = ipv6[at]
	}
	return true
}

// isGlobal says whether an IPv4 address may be embedded in the well-known
// prefix (RFC 6052, 3.1).
func isGlobal(a []byte) bool {
	switch {
	case a[0] == 0, a[0] == 10, a[0] == 127, a[0] >= 224,
		a[0] == 100 && a[1]&0xc0 == 64,
		a[0] == 169 && a[1] == 254,
		a[0] == 172 && a[1]&0xf0 == 16,
		a[0] == 192 && a[1] == 0 && a[2] == 0,
		a[0] == 192 && a[1] == 168:
		return false
	}
	return true
}
