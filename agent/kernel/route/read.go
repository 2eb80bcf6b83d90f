// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readRoutes reads the routes of our tables.
func readRoutes(family int) ([]netlink.Route, error) {
	var have []netlink.Route
	err := dump(func() error {
		have = nil
		all := netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		return netlink.RouteListFilteredIter(family, &all, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if ours(r.Table) {
				r.Flags &= unix.RTNH_F_ONLINK // not whether the link has carrier
				have = append(have, r)
			}
			return true
		})
	})
	return have, err
}

// dump repeats a dump that a change has interrupted.
func dump(read func() error) error {
	var err error
	for range 5 {
		if err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return err
}

// gone says whether what was to be deleted was not there any more: a device
// takes its routes along.
func gone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

func keyOf(r netlink.Route) key { return key{r.Table, prefix(r.Dst)} }

func ipNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefix is the inverse of ipNet.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, size := n.Mask.Size()
	a, _ := netip.AddrFromSlice(n.IP)
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits)
}
