// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

var (
	wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 section 2.1
	sixToFour      = netip.MustParsePrefix("2002::/16")    // RFC 3056
	teredo         = netip.MustParsePrefix("2001::/32")    // RFC 4380
)

// embedded are the IPv4 addresses that an IPv6 address leads to by way of some
// translator or tunnel; nat64 are the prefixes of this host's network.
func embedded(a netip.Addr, nat64 []netip.Prefix) (list []netip.Addr) {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case sixToFour.Contains(a):
		list = append(list, at(2))
	case teredo.Contains(a): // the server, and the client with its bits turned (section 4)
		list = append(list, at(4), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	if b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP (RFC 5214 section 6.1)
		list = append(list, at(12))
	}
	for _, p := range append(slices.Clip(nat64), wellKnownNAT64) {
		if p.Contains(a) {
			list = append(list, translated(b, p.Bits()))
		}
	}
	return list
}

// translated is the IPv4 address behind a prefix of 32, 40, 48, 56, 64 or 96
// bits; the octet after the 64th bit does not count (RFC 6052 section 2.2).
func translated(b [16]byte, bits int) netip.Addr {
	var v4 [4]byte
	for i, at := 0, bits/8; i < len(v4); at++ {
		if at != 8 {
			v4[i] = b[at]
			i++
		}
	}
	return netip.AddrFrom4(v4)
}

// learnNAT64 asks the host's DNS for the prefixes of a NAT64 in its network
// (RFC 7050), until that says whether there is one.
func (s *Server) learnNAT64(ctx context.Context) {
	if s.learning.Swap(true) {
		return // it is being asked
	}
	defer s.learning.Store(false)
	for wait := time.Second; ; wait = min(2*wait, 10*time.Minute) {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip6", "ipv4only.arpa.")
		var failed *net.DNSError
		switch {
		case err == nil:
			found := prefixes64(addrs)
			s.nat64.Store(&found)
			return
		case errors.As(err, &failed) && failed.IsNotFound:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// prefixes64 are the prefixes behind which addresses have a well-known IPv4
// address.
func prefixes64(addrs []netip.Addr) (list []netip.Prefix) {
	wellKnown := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}
	for _, a := range addrs {
		if !a.Is6() || a.Is4In6() {
			continue
		}
		for _, bits := range []int{96, 64, 56, 48, 40, 32} {
			if p, err := a.Prefix(bits); err == nil && slices.Contains(wellKnown, translated(a.As16(), bits)) && !slices.Contains(list, p) {
				list = append(list, p)
				break
			}
		}
	}
	return list
}
