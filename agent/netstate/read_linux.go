// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read takes a snapshot of the caller's network namespace, without netifd's
// interfaces. Links, addresses and routes are read one after the other: after
// a change between them the next snapshot is the right one.
func Read() (Snapshot, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading links: %w", err)
	}
	byIndex := make(map[int]*Link)
	for _, l := range links {
		byIndex[l.Attrs().Index] = newLink(l)
	}
	if err := readAddrs(byIndex); err != nil {
		return Snapshot{}, fmt.Errorf("reading addresses: %w", err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := readDefaults(byIndex, family); err != nil {
			return Snapshot{}, fmt.Errorf("reading routes: %w", err)
		}
	}

	var s Snapshot
	for _, l := range byIndex {
		l.sort()
		s.Links = append(s.Links, *l)
	}
	sort.Slice(s.Links, func(i, j int) bool { return s.Links[i].Index < s.Links[j].Index })
	if s.Tables, err = readTables(); err != nil {
		return Snapshot{}, fmt.Errorf("reading rules: %w", err)
	}
	return s, nil
}

// readTables finds the tables of rules without a selector that come after
// those of braid, 700 to 799.
func readTables() ([]Table, error) {
	var tables []Table
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			t := Table{Table: r.Table, IPv6: family == netlink.FAMILY_V6}
			all := r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == "" && r.Mark == 0 && r.Mask == nil && !r.Invert &&
				r.IPProto == 0 && r.UIDRange == nil && r.Sport == nil && r.Dport == nil && r.Tos == 0
			system := slices.Contains([]int{0, unix.RT_TABLE_DEFAULT, unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL}, r.Table)
			if r.Family == family && r.Priority > 799 && all && !system && !slices.Contains(tables, t) {
				tables = append(tables, t)
			}
		}
	}
	return tables, nil
}

// running are the flags of a link that can carry packets. RUNNING follows the
// operational state, which is unknown, and good, for links that know none (ppp,
// most modems); LOWER_UP is the carrier, which tun devices have while a
// program holds them. The operational state lags behind the carrier.
const running = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP

func newLink(l netlink.Link) *Link {
	a := l.Attrs()
	kind := l.Type()
	if _, ok := l.(*netlink.Tuntap); ok {
		kind = "tun" // of taps too
	}
	return &Link{
		Index:    a.Index,
		Name:     a.Name,
		Up:       a.RawFlags&running == running,
		Loopback: a.RawFlags&unix.IFF_LOOPBACK != 0,
		Type:     kind,
	}
}

func readAddrs(links map[int]*Link) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	for _, a := range addrs {
		l, known := links[a.LinkIndex]
		if !known || a.IPNet == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue // of neither IPv4 nor IPv6
		}
		bits, _ := a.Mask.Size()
		l.Addrs = append(l.Addrs, Addr{Prefix: netip.PrefixFrom(ip, bits), Usable: usable(ip, a)})
	}
	return err
}

func usable(ip netip.Addr, a netlink.Addr) bool {
	unfit := unix.IFA_F_TENTATIVE | unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED
	if ip.Is6() {
		unfit |= unix.IFA_F_TEMPORARY // the same bit is "secondary" in IPv4
	}
	return a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unfit == 0
}

func readDefaults(links map[int]*Link, family int) error {
	main := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, main, netlink.RT_FILTER_TABLE)
	})
	for _, r := range routes {
		if bits, _ := r.Dst.Mask.Size(); bits != 0 || r.Type != unix.RTN_UNICAST {
			continue
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
		}
		for _, h := range hops {
			if l, known := links[h.LinkIndex]; known {
				l.Defaults = append(l.Defaults, Default{
					Gateway: gateway(h.Gw, h.Via),
					IPv6:    family == netlink.FAMILY_V6,
					Metric:  r.Priority,
				})
			}
		}
	}
	return err
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

func (l *Link) sort() {
	sort.Slice(l.Addrs, func(i, j int) bool { return l.Addrs[i].Prefix.Compare(l.Addrs[j].Prefix) < 0 })
	sort.Slice(l.Defaults, func(i, j int) bool {
		a, b := l.Defaults[i], l.Defaults[j]
		if a.IPv6 != b.IPv6 {
			return b.IPv6
		}
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), a.Gateway.Compare(b.Gateway)) < 0
	})
	// Source-specific IPv6 defaults, one a prefix, look all the same.
	l.Defaults = slices.Compact(l.Defaults)
}

// dump repeats a dump that a change has interrupted.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range 5 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
