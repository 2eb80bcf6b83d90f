// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"strconv"
	"strings"

	"braid/onpath/nft"
)

// SetSize is how many entries each of the sets of Rules may have.
const SetSize = 65536

// Sets of Rules that are filled from outside, for each family of addresses; the
// names are behind that of the rules and have the family's behind them.
const (
	// SetKnown has the flows whose end is shown.
	SetKnown = "_known_"
	// SetPending has the flows of which the server's segments are shown.
	SetPending = "_pending_"
)

// rules shows what a Table has to see, of one family. Of each set the key is a
// flow, client first. A connection is shown only if its server has answered with
// MP_CAPABLE, and takes joins at its own address (the C flag, RFC 8684 section
// 3.1): with a forged third packet alone nobody fills a table.
//
// What joins is in a set of its own, which a flood of them may fill, until it is
// known to whom it belongs.
//
// MPTCP's option is looked at once in a packet: the kernel sends the echo of an
// ADD_ADDR without any other.
const rules = `
	set ${name}_answered_${family} { type ${flow}; flags dynamic,timeout; timeout 1m; size ${size}; }
	set ${name}_known_${family} { type ${flow}; flags dynamic,timeout; timeout 1d; size ${size}; }
	set ${name}_joining_${family} { type ${flow}; flags dynamic,timeout; timeout 1m; size ${size}; }
	set ${name}_pending_${family} { type ${flow}; flags dynamic,timeout; timeout 1d; size ${size}; }
	set ${name}_told_${family} { type ${flow}; flags dynamic,timeout; timeout 200ms; size ${size}; }

	chain ${name}_up_end_${family} {
		${up} @${name}_known_${family} delete @${name}_known_${family} { ${up} } delete @${name}_pending_${family} { ${up} } ${log} return
		${up} @${name}_joining_${family} delete @${name}_joining_${family} { ${up} } ${log}
	}

	chain ${name}_up_${family} {
		tcp flags & (fin|rst) != 0 goto ${name}_up_end_${family}
		tcp option mptcp missing return
		tcp flags & (syn|ack) == syn tcp option mptcp subtype 1 update @${name}_joining_${family} { ${up} } ${log}
		tcp flags & (syn|ack|rst) == ack tcp option mptcp subtype 1 ${up} @${name}_joining_${family} ${log}
		tcp flags & (syn|ack|rst) == ack tcp option mptcp subtype 0 ${up} @${name}_answered_${family} update @${name}_known_${family} { ${up} } update @${name}_pending_${family} { ${up} } ${log}
		tcp flags & (syn|ack|rst) == ack tcp option mptcp subtype 3 ${up} @${name}_pending_${family} ${log}
	}

	chain ${name}_down_end_${family} {
		${down} @${name}_known_${family} delete @${name}_known_${family} { ${down} } delete @${name}_pending_${family} { ${down} } ${log} return
		${down} @${name}_joining_${family} delete @${name}_joining_${family} { ${down} } ${log}
	}

	chain ${name}_down_${family} {
		tcp flags & (fin|rst) != 0 goto ${name}_down_end_${family}
		tcp option mptcp missing return
		tcp flags & (syn|ack) == (syn|ack) tcp option mptcp subtype 0 tcp option @30,20,4 1 tcp option @30,26,1 0 update @${name}_answered_${family} { ${down} }
		tcp flags & (syn|ack|rst) == ack tcp option mptcp subtype 2 ${down} @${name}_pending_${family} ${down} != @${name}_told_${family} update @${name}_told_${family} { ${down} } ${log}
	}
`

// Rules are sets and chains for a table of family inet, which show by NFLOG's
// group what a Table has to see. The chains ${name}_up_ip and ${name}_up_ip6 are
// to be jumped to with what clients send, ${name}_down_ip and ${name}_down_ip6
// with what they are sent; both where the addresses are those that the client
// knows.
func Rules(name string, group uint16) string {
	var b strings.Builder
	for _, f := range []struct{ family, addr string }{{"ip", "ipv4_addr"}, {"ip6", "ipv6_addr"}} {
		b.WriteString(nft.Fill(rules, nft.Values{Text: map[string]string{
			"name":   name,
			"family": f.family,
			"flow":   f.addr + " . inet_service . " + f.addr + " . inet_service",
			"up":     f.family + " saddr . tcp sport . " + f.family + " daddr . tcp dport",
			"down":   f.family + " daddr . tcp dport . " + f.family + " saddr . tcp sport",
			"size":   strconv.Itoa(SetSize),
			"log":    "log group " + strconv.Itoa(int(group)) + " snaplen " + strconv.Itoa(Snap),
		}}))
	}
	return b.String()
}

// Snap is how much of a packet has to be shown, in bytes: all of its headers.
const Snap = 160
