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
			errs = append(errs, fmt.Errorf("preference %d of a rule is neither within %d to %d nor %d", r.Pref, plan.PrefFirst, plan.PrefLast, plan.PrefTail))
			continue
		}
		r.Source, r.Dest = whole(r.Source), whole(r.Dest)
		want = append(want, r)
	}
	return want, errors.Join(errs...)
}

func ourPref(pref int) bool {
	return pref >= plan.PrefFirst && pref <= plan.PrefLast || pref == plan.PrefTail
}

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
	var head, tail []netlink.Rule // ours
	foreign := 0                  // rules of others that come after the first of tail
	for _, h := range have {
		switch {
		case h.Priority <= plan.PrefLast:
			head = append(head, h)
		case ourTail(h):
			tail = append(tail, h)
		case len(tail) > 0:
			foreign++
		}
	}
	wantHead, wantTail := split(want)
	stale, errs := addRules(family, head, wantHead)
	moved, err := placeTail(family, tail, foreign > 0, wantTail)
	errs = append(errs, err)
	for _, s := range append(stale, moved...) {
		switch err := netlink.RuleDel(&s); {
		case err == nil:
			deleted++
		case !gone(err):
			errs = append(errs, fmt.Errorf("deleting rule %d to table %d: %w", s.Priority, s.Table, err))
		}
	}
	return deleted, errors.Join(errs...)
}

// split tells the rules whose order is that of their preferences from those of
// the tail, whose order is the plan's.
func split(want []plan.Rule) (head, tail []plan.Rule) {
	for _, w := range want {
		if w.Pref == plan.PrefTail {
			tail = append(tail, w)
		} else {
			head = append(head, w)
		}
	}
	return head, tail
}

// addRules adds what is missing and returns what is there beside it.
func addRules(family int, have []netlink.Rule, want []plan.Rule) (stale []netlink.Rule, errs []error) {
	there := make(map[plan.Rule]bool)
	for _, h := range have {
		if r, plain := parse(h); plain && !there[r] && slices.Contains(want, r) {
			there[r] = true
		} else {
			stale = append(stale, h)
		}
	}
	for _, w := range want {
		if there[w] {
			continue
		}
		there[w] = true
		if err := netlink.RuleAdd(rule(family, w)); err != nil {
			errs = append(errs, fmt.Errorf("adding rule %d to table %d: %w", w.Pref, w.Table, err))
		}
	}
	return stale, errs
}

// placeTail has the rules of the tail be there in order, and behind those of
// others: the kernel puts a rule behind all of its preference. Unless all is
// well it adds the whole sequence once more, and returns what is to go then, the
// older ones, which the kernel finds first.
func placeTail(family int, have []netlink.Rule, overtaken bool, want []plan.Rule) (stale []netlink.Rule, err error) {
	same := len(have) == len(want)
	for i := 0; same && i < len(have); i++ {
		r, plain := parse(have[i])
		same = plain && r == want[i]
	}
	if same && !(overtaken && len(want) > 0) {
		return nil, nil
	}
	var errs []error
	for _, w := range want {
		if err := appendRule(rule(family, w)); err != nil {
			errs = append(errs, fmt.Errorf("adding rule %d to table %d: %w", w.Pref, w.Table, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...) // better two than none
	}
	return have, nil
}

// ourTail says whether a rule of the tail is ours: by the table that it looks
// up, or by looking as nobody else's.
func ourTail(h netlink.Rule) bool {
	r, _ := parse(h)
	return ours(h.Table) || r.Table == plan.TableMain && r.Specific && r.Mark == 0 && r.Mask == plan.MarkForeign
}

// readRules reads the rules of our preferences, and all of the tail's.
func readRules(family int) ([]netlink.Rule, error) {
	var have []netlink.Rule
	err := dump(func() error {
		all, err := netlink.RuleList(family)
		have = nil
		for _, r := range all {
			if r.Family == family && (ourPref(r.Priority) || r.Priority >= plan.PrefTailFirst && r.Priority <= plan.PrefTail) {
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
	if h.Dport != nil && h.Dport.Start == h.Dport.End {
		r.Port = h.Dport.Start
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
	if r.Port != 0 {
		n.Dport = netlink.NewRulePortRange(r.Port, r.Port)
	}
	if r.Specific {
		n.SuppressPrefixlen = 0
	}
	return n
}
