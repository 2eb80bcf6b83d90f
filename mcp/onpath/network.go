// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What routes the packets of converted connections to this host; beside the
// gateway's numbers.
const (
	rulePreference = 690
	localTable     = 7090
)

// families are those of addresses that this kernel has.
func families() []int { return []int{unix.AF_INET, unix.AF_INET6} }

// catch has what is marked as taken delivered here.
func catch() error {
	var errs []error
	for _, family := range families() {
		all := &net.IPNet{IP: make(net.IP, 4), Mask: make(net.IPMask, 4)}
		if family == unix.AF_INET6 {
			all = &net.IPNet{IP: make(net.IP, 16), Mask: make(net.IPMask, 16)}
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Table: localTable, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST})
		}
		if err == nil {
			if err = netlink.RuleAdd(takenRule(family)); errors.Is(err, unix.EEXIST) {
				err = nil
			}
		}
		if err != nil && !(family == unix.AF_INET6 && absent(err)) {
			errs = append(errs, fmt.Errorf("routing what is taken to the loopback: %w", err))
		}
	}
	return errors.Join(errs...)
}

// release undoes catch.
func release() error {
	var errs []error
	for _, family := range families() {
		if err := netlink.RuleDel(takenRule(family)); err != nil && !absent(err) {
			errs = append(errs, err)
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: localTable}, netlink.RT_FILTER_TABLE)
		if err != nil && !absent(err) {
			errs = append(errs, err)
		}
		for _, r := range routes {
			if err := netlink.RouteDel(&r); err != nil && !absent(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// absent says whether something was not there, or cannot be: IPv6 is off.
func absent(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ESRCH, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func takenRule(family int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Mark = family, rulePreference, localTable, markTaken
	mask := uint32(markBits)
	r.Mask = &mask
	return r
}

// routeInto routes a prefix into a device. It goes with the device.
func routeInto(device string, to netip.Prefix) error {
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index,
			Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}})
	}
	if err != nil {
		return fmt.Errorf("routing %v into %s: %w", to, device, err)
	}
	return nil
}

// address gives a device an address.
func address(device string, a netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.AddrReplace(link, &netlink.Addr{Flags: unix.IFA_F_NODAD,
			IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}})
	}
	if err != nil {
		return fmt.Errorf("adding %v to %s: %w", a, device, err)
	}
	return nil
}

// unfit tells what of this host's settings keeps it from its work.
func unfit() (problems []string) {
	for _, s := range []struct{ key, bad, problem string }{
		{"net/ipv4/ip_forward", "0", "net.ipv4.ip_forward is 0: nothing is forwarded"},
		{"net/ipv6/conf/all/forwarding", "0", "net.ipv6.conf.all.forwarding is 0: what is lent leads nowhere"},
		{"net/ipv4/conf/all/rp_filter", "1", "net.ipv4.conf.all.rp_filter is 1, not 0 or 2: SYNs that come by again are dropped"},
	} {
		if b, err := os.ReadFile("/proc/sys/" + s.key); err == nil && strings.TrimSpace(string(b)) == s.bad {
			problems = append(problems, s.problem)
		}
	}
	return problems
}
