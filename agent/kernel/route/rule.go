// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

// rulesOf picks the wanted rules of a family, spelled as the kernel does.
func rulesOf(family int, rules []plan.Rule) ([]plan.Rule, error) {
	var errs []error
	var want []plan.Rule
	for _, r := range rules {
		if r.IPv6 != (family == netlink.FAMILY_V6) {
			continue
		}
		if !ourPref(r.Pref) {
			errs = append(errs, fmt.Errorf("preference %d of a rule is not within %d to %d", r.Pref, plan.PrefFirst, plan.PrefLast))
			continue
		}
		r.Source, r.Dest = whole(r.Source), whole(r.Dest)
		want = append(want, r)
	}
	return want, errors.Join(errs...)
}

func ourPref(pref int) bool { return pref >= plan.PrefFirst && pref <= plan.PrefLast }

// whole masks a selector and drops one that selects everything, as the kernel
// does.
func whole(p netip.Prefix) netip.Prefix {
	if p.Bits() <= 0 {
		return netip.Prefix{}
	}
	return p.Masked()
}

// applyRules adds what is missing and then deletes what is too much. The
// kernel deletes the first rule that has what the request names, and that may
// be a narrower one, which is wanted; and it takes a rule for an existing one
// that is narrower by address. Hence the second look after a deletion.
func applyRules(family int, want []plan.Rule) error {
	var err error
	for range 3 {
		var deleted int
		if deleted, err = turnRules(family, want); deleted == 0 {
			break
		}
	}
	return err
}

func turnRules(family int, want []plan.Rule) (deleted int, err error) {
	have, err := readRules(family)
	if err != nil {
		return 0, fmt.Errorf("reading rules: %w", err)
	}
	there := make(map[plan.Rule]bool)
	var stale []netlink.Rule
	for _, h := range have {
		if r, plain := parse(h); plain && !there[r] && slices.Contains(want, r) {
			there[r] = true
		} else {
			stale = append(stale, h)
		}
	}
	var errs []error
	for _, w := range want {
		if there[w] {
			continue
		}
		there[w] = true
		if err := netlink.RuleAdd(rule(family, w)); err != nil {
			errs = append(errs, fmt.Errorf("adding rule %d to table %d: %w", w.Pref, w.Table, err))
		}
	}
	for _, s := range stale {
		switch err := netlink.RuleDel(&s); {
		case err == nil:
			deleted++
		case !gone(err):
			errs = append(errs, fmt.Errorf("deleting rule %d to table %d: %w", s.Priority, s.Table, err))
		}
	}
	return deleted, errors.Join(errs...)
}

// readRules reads the rules of our preferences.
func readRules(family int) ([]netlink.Rule, error) {
	var have []netlink.Rule
	err := dump(func() error {
		all, err := netlink.RuleList(family)
		have = nil
		for _, r := range all {
			if r.Family == family && ourPref(r.Priority) {
				have = append(have, r)
			}
		}
		return err
	})
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // a kernel without IPv6 or without policy rules for it
	}
	return have, err
}

// parse reads a rule. It is not plain if it has selectors that we do not use.
func parse(h netlink.Rule) (r plan.Rule, plain bool) {
	r = plan.Rule{
		Pref:   h.Priority,
		IPv6:   h.Family == netlink.FAMILY_V6,
		Source: prefix(h.Src),
		Dest:   prefix(h.Dst),
		Device: h.OifName,
		In:     h.IifName,
		Mark:   h.Mark,
		Table:  h.Table,

		Own:      h.IifName == own,
		Specific: h.SuppressPrefixlen == 0,
	}
	if r.Own {
		r.In = ""
	}
	if h.Mask != nil {
		r.Mask = *h.Mask
	}
	h.Protocol = 0
	return r, reflect.DeepEqual(*rule(h.Family, r), h)
}

// own is the device that what this host sends counts as coming from.
const own = "lo"

func rule(family int, r plan.Rule) *netlink.Rule {
	n := netlink.NewRule()
	n.Family = family
	n.Priority = r.Pref
	n.Src = ipNet(r.Source)
	n.Dst = ipNet(r.Dest)
	n.OifName = r.Device
	n.IifName = r.In
	n.Mark = r.Mark
	if r.Mark != 0 || r.Mask != 0 {
		n.Mask = &r.Mask
	}
	n.Table = r.Table
	if r.Own {
		n.IifName = own
	}
	if r.Specific {
		n.SuppressPrefixlen = 0
	}
	return n
}
