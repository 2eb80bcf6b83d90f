// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"net/netip"
	"time"

	"braid/transport/convert"
)

// world stands for the Internet: addresses of the DNS root (a and m). Nothing
// is ever sent to them.
var world = []netip.Addr{
	netip.MustParseAddr("198.41.0.4"), netip.MustParseAddr("202.12.27.33"),
	netip.MustParseAddr("2001:503:ba3e::2:30"), netip.MustParseAddr("2001:dc3::35"),
}

// info answers a client that asks what the converter can do. One that asks for
// families, as gateways do, is also told when the next connection would be one
// too many, so that it does not have to be tried.
func (s *Server) info(ctx context.Context, asked convert.Message, full bool) convert.Message {
	answer := []convert.TLV{convert.SupportedTCPExtensions{Kinds: []byte{convert.KindMPTCP}}}
	if _, ok := convert.Find[convert.Families](asked); ok {
		answer = append(answer, s.families(ctx))
		if full {
			answer = append(answer, convert.RetryError(convert.ResourceExceeded, time.Second))
		}
	}
	return convert.Reply(answer...)
}

// families tells in which address families there is a way out: to the
// Internet, or to a network that the configuration opens, for a converter in a
// closed network may have no other.
func (s *Server) families(ctx context.Context) (f convert.Families) {
	for _, a := range world {
		f = f.With(a, routed(ctx, a))
	}
	for _, p := range s.config.Load().AllowDestinations {
		f = f.With(p.Addr(), routed(ctx, p.Addr()))
	}
	return f
}

// routed says whether this host has a route to an address, and an address of
// its own to send from: what connect says of a datagram socket, which sends
// nothing.
func routed(ctx context.Context, a netip.Addr) bool {
	const discard = 9
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(a, discard).String())
	if err != nil {
		return false
	}
	defer c.Close()
	return netip.MustParseAddrPort(c.LocalAddr().String()).Addr().IsGlobalUnicast()
}
