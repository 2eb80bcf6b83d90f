// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"math"
	"net"
	"net/netip"
	"slices"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readDefaults reads the default routes of all tables but our own, and returns
// those that lead nowhere.
func readDefaults(links map[int]*Link, own Own, family int) (refused []Default, err error) {
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, all, netlink.RT_FILTER_TABLE)
	})
	for _, r := range routes {
		if bits, _ := r.Dst.Mask.Size(); bits != 0 || own.table(r.Table) || r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		d := Default{IPv6: family == netlink.FAMILY_V6, Table: r.Table, Metric: r.Priority}
		d.Source, _ = netip.AddrFromSlice(r.Src)
		d.Source = d.Source.Unmap()
		switch r.Type {
		case unix.RTN_UNICAST:
		case unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT:
			// The kernel's own last entry of IPv6 tables refuses what nothing
			// else takes.
			if !(r.Protocol == unix.RTPROT_KERNEL && uint32(r.Priority) == math.MaxUint32) {
				refused = append(refused, d)
			}
			continue
		default:
			continue
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
		}
		for _, h := range hops {
			if l, known := links[h.LinkIndex]; known {
				d.Gateway = gateway(h.Gw, h.Via)
				l.Defaults = append(l.Defaults, d)
			}
		}
	}
	sort.Slice(refused, func(i, j int) bool { return before(refused[i], refused[j]) })
	return refused, err
}

// before sorts default routes: those of the main table first, then by metric.
func before(a, b Default) bool {
	rank := func(d Default) int {
		if d.Table == unix.RT_TABLE_MAIN {
			return 0
		}
		return d.Table
	}
	if a.IPv6 != b.IPv6 {
		return b.IPv6
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Metric, b.Metric), a.Gateway.Compare(b.Gateway), a.Source.Compare(b.Source)) < 0
}

// gateway is the invalid address if there is none. An IPv4 route can have an
// IPv6 one, called via (kernel 5.2).
func gateway(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok {
		gw = v.Addr
	}
	a, _ := netip.AddrFromSlice(gw)
	return a
}

// somewhere is an address to which nobody has a route but the default one: of
// the IPv6 unicast space, and not given to anybody (RFC 3513, IANA).
var somewhere = net.ParseIP("3ffe::1")

// readSources asks the kernel which address it would send from over each link
// that has an IPv6 default route. Unlike IPv4's, its choice (RFC 6724) depends
// on what else the host has, and on lifetimes.
func readSources(links map[int]*Link) {
	for _, l := range links {
		if !slices.ContainsFunc(l.Defaults, func(d Default) bool { return d.IPv6 }) {
			continue
		}
		routes, err := netlink.RouteGetWithOptions(somewhere, &netlink.RouteGetOptions{OifIndex: l.Index})
		if err != nil || len(routes) == 0 {
			continue
		}
		if a, _ := netip.AddrFromSlice(routes[0].Src); a.IsGlobalUnicast() {
			l.Source6 = a
		}
	}
}
