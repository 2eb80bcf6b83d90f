// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
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
