// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"errors"
	"net/netip"
	"slices"

	"braid/onpath/siit"
)

// serviceContinuity is the range that is set aside for the IPv4 address of a
// host behind an IPv6-only access (RFC 7335).
var serviceContinuity = netip.MustParsePrefix("192.0.0.0/29")

// inner is where the addresses lie that stand for ours in translated packets.
// No packet leaves the host with one.
var inner = netip.MustParsePrefix("fd62:7261:6964::/96")

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
	a, _ := siit.Embed(inner, ipv4)
	return a
}
