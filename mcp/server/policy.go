// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/transport/convert"
)

// forbidden are destinations that only allow_destinations opens: what lies
// behind the converter is not the client's to reach.
var forbidden = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
	"::/127", "fe80::/10", "fc00::/7", "ff00::/8",
)

// embedding are IPv6 prefixes that end in an IPv4 address, which is held
// against the list as well: NAT64's well-known one (RFC 6052).
var embedding = netip.MustParsePrefix("64:ff9b::/96")

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// allowed says whether clients may have connections to an address. The error
// is Convert's Not Authorized, which covers "administratively prohibited".
func (s *Server) allowed(a netip.Addr) error {
	a = a.Unmap()
	if containsAddr(s.Config.AllowDestinations, a) {
		return nil
	}
	inner := a
	if embedding.Contains(a) {
		b := a.As16()
		inner = netip.AddrFrom4([4]byte(b[12:]))
	}
	own, err := s.own.list()
	if err != nil {
		return fmt.Errorf("reading own addresses: %w", err)
	}
	if containsAddr(forbidden, a) || containsAddr(forbidden, inner) || slices.Contains(own, a) {
		return convert.Error{Code: convert.NotAuthorized}
	}
	return nil
}

func containsAddr(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ownAddresses are the addresses of this host, read anew every few seconds,
// and those it is known by behind a 1:1 NAT.
type ownAddresses struct {
	announced []netip.Addr

	mu    sync.Mutex
	read  time.Time
	addrs []netip.Addr
}

func (o *ownAddresses) list() ([]netip.Addr, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.read) < 5*time.Second {
		return o.addrs, nil
	}
	addrs, err := interfaceAddrs()
	if err != nil {
		return nil, err
	}
	o.addrs, o.read = append(addrs, o.announced...), time.Now()
	return o.addrs, nil
}

func interfaceAddrs() (list []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr())
		}
	}
	return list, nil
}
