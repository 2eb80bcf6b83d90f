// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package route makes the routing tables and policy rules that are braid's
// what they are to be.
package route

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

// Apply makes the routes of the tables plan.TableLocal to TableLast, the rules
// of the preferences plan.PrefFirst to PrefLast and ours among those of
// plan.PrefTailFirst to PrefTail what they are to be, in both families; Apply(nil, nil) is teardown. What comes is there before what
// goes is taken away; rules come after all routes and go before them.
//
// Errors are joined, and one that fails does not stop the rest. What has gone
// already is no error, and neither is a host without IPv6: what is wanted of
// IPv6 is left out there.
func Apply(routes []plan.Route, rules []plan.Rule) error {
	families := []int{netlink.FAMILY_V4, netlink.FAMILY_V6}
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, os.ErrNotExist) {
		families = families[:1]
	}
	var errs []error
	for _, f := range families {
		errs = append(errs, applyFamily(f, routes, rules))
	}
	return errors.Join(errs...)
}

func applyFamily(family int, routes []plan.Route, rules []plan.Rule) error {
	wantRoutes, err := routesOf(family, routes)
	stale, addErr := addRoutes(family, wantRoutes)
	wantRules, ruleErr := rulesOf(family, rules)
	return errors.Join(err, addErr, ruleErr, applyRules(family, wantRules), deleteRoutes(stale))
}

// key is what the kernel replaces a route by. There is one metric only.
type key struct {
	table int
	dest  netip.Prefix
}

// routesOf says how the kernel is to show the wanted routes of a family.
func routesOf(family int, routes []plan.Route) (map[key]netlink.Route, error) {
	var errs []error
	want := make(map[key]netlink.Route)
	for _, r := range routes {
		if r.Dest.Addr().Is4() != (family == netlink.FAMILY_V4) {
			continue
		}
		k := key{r.Table, r.Dest.Masked()}
		_, twice := want[k]
		switch {
		case !ours(r.Table):
			errs = append(errs, fmt.Errorf("table %d of route to %v is not within %d to %d", r.Table, r.Dest, plan.TableLocal, plan.TableLast))
		case twice:
			errs = append(errs, fmt.Errorf("two routes to %v in table %d", r.Dest, r.Table))
		default:
			want[k] = shown(family, k, r)
		}
	}
	return want, errors.Join(errs...)
}

func ours(table int) bool { return table >= plan.TableLocal && table <= plan.TableLast }

// metric6 is what the kernel makes of IPv6 routes without a metric
// (IP6_RT_PRIO_USER).
const metric6 = 1024

// loopback is the index of lo in every namespace (LOOPBACK_IFINDEX), which
// the kernel shows with IPv6 routes that lead nowhere.
const loopback = 1

func shown(family int, k key, r plan.Route) netlink.Route {
	n := netlink.Route{
		Family:    family,
		Table:     k.table,
		Dst:       ipNet(k.dest),
		LinkIndex: r.Link,
		Type:      unix.RTN_UNICAST,
		Protocol:  unix.RTPROT_STATIC,
		MTU:       r.MTU,
	}
	if family == netlink.FAMILY_V6 {
		n.Priority = metric6
	}
	switch {
	case r.Unreachable:
		n.Type = unix.RTN_UNREACHABLE
		n.LinkIndex = 0
		if family == netlink.FAMILY_V6 {
			n.LinkIndex = loopback
		}
	case r.Elsewhere:
		n.Type = unix.RTN_THROW
		n.LinkIndex = 0
		if family == netlink.FAMILY_V6 {
			n.LinkIndex = loopback
		}
	case r.Local:
		n.Type = unix.RTN_LOCAL
		n.Scope = unix.RT_SCOPE_HOST
	case !r.Gateway.IsValid():
		n.Scope = unix.RT_SCOPE_LINK
	default:
		// The gateway need not lie within a prefix of the device, and if it
		// does, the kernel is spared the question.
		n.Flags = unix.RTNH_F_ONLINK
		if r.Gateway.Is4() == (family == netlink.FAMILY_V4) {
			n.Gw = r.Gateway.AsSlice()
		} else {
			n.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: r.Gateway.AsSlice()} // kernel 5.2
		}
	}
	if family == netlink.FAMILY_V6 {
		n.Scope = unix.RT_SCOPE_UNIVERSE // IPv6 routes have no other
	}
	return n
}

// addRoutes adds what is missing of want and returns what is there beside it.
func addRoutes(family int, want map[key]netlink.Route) (stale []netlink.Route, err error) {
	have, err := readRoutes(family)
	if err != nil {
		return nil, fmt.Errorf("reading routes: %w", err)
	}
	there := make(map[key]bool)
	for _, h := range have {
		if w, ok := want[keyOf(h)]; ok && h.Equal(w) && h.MTU == w.MTU {
			there[keyOf(h)] = true
		} else {
			stale = append(stale, h)
		}
	}
	var errs []error
	for k, w := range want {
		if there[k] {
			continue
		}
		if err := netlink.RouteReplace(&w); err != nil {
			errs = append(errs, fmt.Errorf("adding route to %v in table %d: %w", k.dest, k.table, err))
			continue
		}
		stale = withoutReplaced(stale, w)
	}
	return stale, errors.Join(errs...)
}

// withoutReplaced leaves out the stale routes whose deletion would hit w,
// which has just replaced them.
func withoutReplaced(stale []netlink.Route, w netlink.Route) []netlink.Route {
	return slices.DeleteFunc(stale, func(s netlink.Route) bool {
		return keyOf(s) == keyOf(w) && s.Priority == w.Priority && s.Protocol == w.Protocol &&
			s.LinkIndex == w.LinkIndex && s.Gw.Equal(w.Gw)
	})
}

func deleteRoutes(stale []netlink.Route) error {
	var errs []error
	for _, s := range stale {
		if err := netlink.RouteDel(&s); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("deleting route to %v in table %d: %w", s.Dst, s.Table, err))
		}
	}
	return errors.Join(errs...)
}
