// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/netip"
	"slices"

	"braid/mcp/config"
	"braid/mcp/host"
	"braid/transport/convert"
)

// forbidden are destinations that only allow_destinations opens: what lies
// behind the converter is not the client's to reach. Of the clouds' services
// for their own machines those that are not link-local have a line of their
// own.
var forbidden = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
	"192.0.0.0/24", "168.63.129.16/32",
	"::/96",           // unspecified, loopback, IPv4-compatible (RFC 4291 section 2.5.5.1)
	"64:ff9b:1::/48",  // NAT64 of the host's network (RFC 8215)
	"::ffff:0:0:0/96", // IPv4-translated (RFC 2765)
	"fe80::/10", "fec0::/10", "fc00::/7", "ff00::/8",
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// allowed says whether a client may have a connection to a server. The error
// is Convert's Not Authorized, which covers "administratively prohibited".
func (s *Server) allowed(c config.Client, to netip.AddrPort) error {
	prohibited := convert.Error{Code: convert.NotAuthorized}
	conf := s.config.Load()
	a := to.Addr().Unmap().WithZone("")
	forms := append(embedded(a, *s.nat64.Load()), a)
	for _, f := range forms {
		local, err := host.IsLocal(f)
		switch {
		case err != nil:
			return fmt.Errorf("looking up the way to %v: %w", f, err)
		case local, slices.Contains(conf.Announce, f), within(conf.DenyDestinations, f):
			return prohibited
		}
	}
	if slices.Contains(conf.DenyPorts, to.Port()) || c.Destinations != nil && !within(c.Destinations, a) {
		return prohibited
	}
	if within(conf.AllowDestinations, a) {
		return nil
	}
	if slices.ContainsFunc(forms, func(f netip.Addr) bool { return within(forbidden, f) }) {
		return prohibited
	}
	return nil
}

func within(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}
