// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read takes a snapshot of the caller's network namespace, without netifd's
// interfaces and without what own is. Links, addresses and routes are read one
// after the other: after a change between them the next snapshot is the right
// one.
func Read(own Own) (Snapshot, error) {
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
	var s Snapshot
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		refused, err := readDefaults(byIndex, own, family)
		if err != nil {
			return Snapshot{}, fmt.Errorf("reading routes: %w", err)
		}
		s.Refused = append(s.Refused, refused...)
	}
	readSources(byIndex)
	for _, l := range byIndex {
		l.sort()
		s.Links = append(s.Links, *l)
	}
	sort.Slice(s.Links, func(i, j int) bool { return s.Links[i].Index < s.Links[j].Index })
	if s.Rules, err = readRules(own); err != nil {
		return Snapshot{}, fmt.Errorf("reading rules: %w", err)
	}
	// A kernel without IPsec has no such messages.
	policies, _ := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	for _, p := range policies {
		s.IPsec = s.IPsec || p.Dir == netlink.XFRM_DIR_OUT && len(p.Tmpls) > 0
	}
	return s, nil
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
		MTU:      a.MTU,
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
		l.Addrs = append(l.Addrs, Addr{
			Prefix: netip.PrefixFrom(ip, bits), Usable: usable(ip, a), Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
		})
	}
	return err
}

func usable(ip netip.Addr, a netlink.Addr) bool {
	unfit := unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	if ip.Is6() {
		unfit |= unix.IFA_F_TEMPORARY // the same bit is "secondary" in IPv4
	}
	return a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unfit == 0
}

func (l *Link) sort() {
	sort.Slice(l.Addrs, func(i, j int) bool { return l.Addrs[i].Prefix.Compare(l.Addrs[j].Prefix) < 0 })
	sort.Slice(l.Defaults, func(i, j int) bool { return before(l.Defaults[i], l.Defaults[j]) })
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
