// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// wellKnown is the prefix that any network may use for NAT64 (RFC 6052, 2.1).
var wellKnown = netip.MustParsePrefix("64:ff9b::/96")

// serviceContinuity is the range that is set aside for the IPv4 address of a
// host behind an IPv6-only access (RFC 7335).
var serviceContinuity = netip.MustParsePrefix("192.0.0.0/29")

// inner is where the addresses lie that stand for ours in translated packets.
// No packet leaves the host with one.
var inner = netip.MustParsePrefix("fd62:7261:6964::/96")

// ErrPrefix says that a prefix cannot be one of a NAT64.
var ErrPrefix = errors.New("not a NAT64 prefix of length 32, 40, 48, 56, 64 or 96")

// ErrNoAddress says that all addresses of RFC 7335 are taken.
var ErrNoAddress = errors.New("no free address in 192.0.0.0/29")

// Address chooses the IPv4 address for the WAN with an index of 1 or more: one
// of 192.0.0.1 to 192.0.0.7 (RFC 7335), the same for the same index unless it
// is among those taken, by other WANs or by another translator on this host.
func Address(index int, taken []netip.Addr) (netip.Addr, error) {
	const n = 7
	base := serviceContinuity.Addr().As4()
	for i := range n {
		a := base
		a[3] = byte(1 + (index-1+i)%n)
		if addr := netip.AddrFrom4(a); !slices.Contains(taken, addr) {
			return addr, nil
		}
	}
	return netip.Addr{}, ErrNoAddress
}

// Inner is the IPv6 address that stands for an IPv4 address of ours in packets
// between the translator and the kernel, which exchanges it for the WAN's own.
func Inner(ipv4 netip.Addr) netip.Addr {
	a, _ := Embed(inner, ipv4)
	return a
}

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
