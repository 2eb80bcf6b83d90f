// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// readRules reads the policy rules but our own. The library's RuleList drops
// what a rule does with what it selects.
func readRules(own Own) ([]Rule, error) {
	var rules []Rule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := dump(func() ([][]byte, error) {
			r := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
			r.AddData(nl.NewIfInfomsg(family))
			return r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
		})
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6, or without policy rules for it
		}
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			r, err := parseRule(m)
			if err != nil {
				return nil, err
			}
			// A kernel without rules for IPv6 answers for both families.
			if r.IPv6 == (family == unix.AF_INET6) && !own.rule(r) {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

// ruleInvert is FIB_RULE_INVERT.
const ruleInvert = 2

// parseRule reads a struct fib_rule_hdr and its attributes.
func parseRule(m []byte) (Rule, error) {
	h := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[h.Len():])
	if err != nil {
		return Rule{}, err
	}
	r := Rule{IPv6: h.Family == unix.AF_INET6, Invert: h.Flags&ruleInvert != 0, Narrow: h.Tos != 0}
	table := int(h.Table)
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.FRA_SRC:
			r.Source = selector(a.Value, h.Src_len)
		case unix.FRA_DST:
			r.Dest = selector(a.Value, h.Dst_len)
		case unix.FRA_IIFNAME:
			r.In = strings.TrimRight(string(a.Value), "\x00")
		case unix.FRA_OIFNAME:
			r.Out = strings.TrimRight(string(a.Value), "\x00")
		case unix.FRA_PRIORITY:
			r.Pref = int(word(a.Value))
		case unix.FRA_TABLE:
			table = int(word(a.Value))
		case unix.FRA_GOTO:
			r.Goto = int(word(a.Value))
		case unix.FRA_FWMARK:
			r.Mark = word(a.Value)
		case unix.FRA_FWMASK:
			r.Mask = word(a.Value)
		case unix.FRA_IP_PROTO:
			r.Proto = int(a.Value[0])
		case unix.FRA_DPORT_RANGE: // struct fib_rule_port_range
			if len(a.Value) == 4 {
				r.Port = Ports{binary.NativeEndian.Uint16(a.Value), binary.NativeEndian.Uint16(a.Value[2:])}
			}
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.NoDefault = int32(word(a.Value)) >= 0
		case unix.FRA_SUPPRESS_IFGROUP:
			r.Narrow = r.Narrow || int32(word(a.Value)) >= 0
		case unix.FRA_TUN_ID, unix.FRA_L3MDEV, unix.FRA_UID_RANGE, unix.FRA_SPORT_RANGE:
			r.Narrow = true
		}
	}
	switch h.Type { // fib_rule_hdr.action
	case unix.FR_ACT_TO_TBL:
		r.Table = table
	case unix.FR_ACT_BLACKHOLE, unix.FR_ACT_UNREACHABLE, unix.FR_ACT_PROHIBIT:
		r.Refuses = true
	}
	return r, nil
}

func word(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func selector(b []byte, bits uint8) netip.Prefix {
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, int(bits))
}
