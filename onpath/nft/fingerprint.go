// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and the one attribute that they all begin with, the table's name
// (linux/netfilter/nf_tables.h).
const (
	getTable = 1
	getChain = 4
	getRule  = 7
	getSet   = 10
	attrName = 1

	attrChainCounters   = 8 // what a chain has counted
	attrRuleExpressions = 4
	attrExpressionName  = 1
)

var families = map[string]byte{"inet": unix.NFPROTO_INET, "ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6}

// Fingerprint tells whether tables, named as "inet braid", are as they were:
// their chains, rules and sets, but not the elements of these, which others may
// add and time out many times a second. It starts no process.
func Fingerprint(tables ...string) (uint64, error) {
	h := fnv.New64a()
	for _, table := range tables {
		family, name, _ := strings.Cut(table, " ")
		for _, kind := range []int{getTable, getChain, getRule, getSet} {
			r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
			r.AddRawData([]byte{families[family], 0, 0, 0})
			if kind == getRule || kind == getSet { // the others cannot be asked for by table
				r.AddData(nl.NewRtAttr(attrName, nl.ZeroTerminated(name)))
			}
			msgs, err := r.Execute(unix.NETLINK_NETFILTER, 0)
			if err != nil {
				return 0, fmt.Errorf("reading table %s: %w", table, err)
			}
			for _, m := range msgs {
				if tableOf(m) == name {
					h.Write(binary.NativeEndian.AppendUint32(nil, uint32(len(m))))
					h.Write(m[headerLen:]) // not the generation
				}
			}
		}
	}
	return h.Sum64(), nil
}

// Rules tells whether the chains and rules of all tables are as they were, but for
// tables of one name. It does not matter what rules and chains have counted
// meanwhile, nor what elements sets and maps have. It starts no process.
func Rules(except string) (uint64, error) {
	h := fnv.New64a()
	for _, kind := range []int{getTable, getChain, getRule} {
		r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
		r.AddRawData([]byte{unix.NFPROTO_UNSPEC, 0, 0, 0})
		msgs, err := r.Execute(unix.NETLINK_NETFILTER, 0)
		if err != nil {
			return 0, fmt.Errorf("reading the packet filter's rules: %w", err)
		}
		for _, m := range msgs {
			if len(m) < headerLen || tableOf(m) == except {
				continue
			}
			attrs, err := nl.ParseRouteAttr(m[headerLen:])
			h.Write([]byte{byte(kind), m[0]})
			for _, a := range attrs {
				switch which := a.Attr.Type &^ unix.NLA_F_NESTED; {
				case kind == getChain && which == attrChainCounters:
				case kind == getRule && which == attrRuleExpressions:
					err = errors.Join(err, writeExpressions(h, a.Value))
				default:
					h.Write(a.Value)
				}
			}
			if err != nil {
				return 0, fmt.Errorf("reading the packet filter's rules: %w", err)
			}
		}
	}
	return h.Sum64(), nil
}

// writeExpressions writes what a rule asks for and does.
func writeExpressions(w io.Writer, b []byte) error {
	list, err := nl.ParseRouteAttr(b)
	for _, element := range list {
		attrs, malformed := nl.ParseRouteAttr(element.Value)
		err = errors.Join(err, malformed)
		for _, a := range attrs {
			w.Write(a.Value)
			if a.Attr.Type&^unix.NLA_F_NESTED == attrExpressionName && counting[strings.TrimRight(string(a.Value), "\x00")] {
				break // what follows has been counted
			}
		}
	}
	return err
}

// counting are the expressions that remember.
var counting = map[string]bool{"counter": true, "quota": true, "last": true}

// tableOf is the name of the table that a message is about.
func tableOf(m []byte) string {
	if len(m) < headerLen {
		return ""
	}
	attrs, err := nl.ParseRouteAttr(m[headerLen:])
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Attr.Type == attrName {
			return strings.TrimRight(string(a.Value), "\x00")
		}
	}
	return ""
}
