// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"braid/mcp/config"
	"braid/onpath/lend"
	"braid/onpath/nft"
)

// table is the packet filter's for all but what inet cannot do.
const table = "inet braid_mcp"

// Marks, in the bits that are braid's.
const (
	markBits  = 0x3f000000
	markHeart = 0x31000000 // the process lives
	markTaken = 0x32000000 // of a connection that is converted: it ends here
	markOurs  = 0x33000000 // sent to clients in their servers' names
)

// Groups of the packet filter's log.
const (
	groupJudge = 5120
	groupLent  = 5121
	groupOwn   = 5122
)

// Names of lend's rules.
const (
	nameLent = "lent" // connections that are forwarded
	nameOwn  = "own"  // that are converted
)

// snapSYN is what is shown of a SYN: it may bring data (TCP Fast Open).
const snapSYN = 2048

//go:embed ruleset.nft
var ruleset string

// family is what holds for connections of one family. A SYN that asks for MPTCP
// passes, unless its server is known to have none. The server's answer is judged:
// with MPTCP the converter is out of the way from then on; without, the client
// never sees it.
const family = `
set capable_${family} { type ${addr} . inet_service; flags dynamic,timeout; timeout 10m; size ${size}; }
set plain_${family} { type ${addr} . inet_service; flags dynamic,timeout; timeout 10m; size ${size}; }
set asked_${family} { type ${addr} . inet_service . ${addr} . inet_service; flags dynamic,timeout; timeout 10s; size ${size}; }

chain up_${family} {
	${family} saddr != { ${clients} } return
	tcp flags & (fin|syn|rst|ack) == syn tcp option mptcp subtype 0 goto ask_${family}
	jump lent_up_${family}
}

chain ask_${family} {
	${family} daddr . tcp dport @plain_${family} meta nfproto @alive meta mark set meta mark & ${others} | ${taken} return
	${family} daddr . tcp dport @capable_${family} return
	update @asked_${family} { ${family} saddr . tcp sport . ${family} daddr . tcp dport } log group ${group} snaplen ${snap}
}

chain down_${family} {
	${family} daddr != { ${clients} } return
	tcp flags & (fin|syn|rst|ack) == (syn|ack) ${family} daddr . tcp dport . ${family} saddr . tcp sport @asked_${family} jump judge_${family}
	jump lent_down_${family}
}

chain judge_${family} {
	tcp option mptcp subtype 0 goto learn_${family}
	meta nfproto @alive update @plain_${family} { ${family} saddr . tcp sport } log group ${group} snaplen ${snap} drop
}

chain learn_${family} {
	update @capable_${family} { ${family} saddr . tcp sport }
}
`

// gate lets through to the translator joins of connections that were seen, and
// what belongs to them.
const gate = `
chain gate {
	type filter hook forward priority filter; policy accept;
	oifname "${tun}" jump inward
	iifname "${tun}" jump outward
}

chain inward {
	ct state established,related accept
	ip6 daddr ${prefix} tcp flags & (fin|syn|rst|ack) == syn tcp option mptcp subtype 1 jump known
	drop
}

# The mark is borrowed: the kernel has no other place for a part of a packet.
chain known {
	meta mark set tcp option @30,32,32
	ip6 daddr . meta mark @tokens meta mark set 0 accept
	drop
}

chain outward {
	ip saddr ${inner4} ip daddr != ${prefix4} accept
	ct state established,related accept
	drop
}

chain translate {
	type nat hook postrouting priority srcnat; policy accept;
	oifname "${tun}" ip6 daddr ${prefix} snat ip6 to ${inner6}
	iifname "${tun}" ip saddr ${inner4} masquerade
}
`

// state is what the packet filter is to do.
type state struct {
	config.OnPath        // without interfaces: only what is open is carried
	port          uint16 // of the listener
	tun           string // empty: nothing is lent
}

// text is the ruleset.
func (s state) text() string {
	values := map[string]string{
		"bits":       hex(markBits),
		"faith":      faith.String(),
		"others":     hex(^uint32(markBits)),
		"heart":      hex(markHeart),
		"taken":      hex(markTaken),
		"ours":       hex(markOurs),
		"port":       strconv.Itoa(int(s.port)),
		"size":       strconv.Itoa(lend.SetSize),
		"group":      strconv.Itoa(groupJudge),
		"snap":       strconv.Itoa(snapSYN),
		"interfaces": quoted(s.Interfaces),
		"tun":        s.tun,
		"prefix":     s.Lend.String(),
		"prefix4":    subnet4.String(),
		"inner4":     inner4.String(),
	}
	var families strings.Builder
	for _, f := range []struct{ family, addr, none string }{{"ip", "ipv4_addr", "0.0.0.0"}, {"ip6", "ipv6_addr", "::"}} {
		values["family"], values["addr"] = f.family, f.addr
		values["clients"] = prefixes(s.Clients, f.family == "ip6", f.none)
		families.WriteString(nft.Fill(family, nft.Values{Text: values}))
	}
	lines := map[string][]string{
		"families": split(families.String()),
		"lent":     split(lend.Rules(nameLent, groupLent)),
		"own":      split(lend.Rules(nameOwn, groupOwn)),
	}
	if s.tun != "" {
		values["inner6"] = inner6(s.Lend).String()
		lines["gate"] = split(nft.Fill(gate, nft.Values{Text: values}))
		own := netip.AddrPortFrom(embed(s.Lend, own4), ownPort)
		lines["ownjoins"] = []string{fmt.Sprintf("ip6 daddr %v tcp dport %d goto own_up_ip6", own.Addr(), own.Port())}
		lines["ownanswers"] = []string{fmt.Sprintf("ip6 saddr %v tcp sport %d goto own_down_ip6", own.Addr(), own.Port())}
		lines["joins"] = []string{
			fmt.Sprintf("oifname %q ip6 daddr %v goto lent_up_ip6", s.tun, s.Lend),
			fmt.Sprintf("iifname %q ip6 saddr %v goto lent_down_ip6", s.tun, s.Lend),
		}
	}
	return nft.Fill(ruleset, nft.Values{Text: values, Lines: lines})
}

func hex(v uint32) string { return fmt.Sprintf("%#08x", v) }

func split(text string) []string { return strings.Split(strings.Trim(text, "\n"), "\n") }

func quoted(names []string) string {
	var b []string
	for _, n := range names {
		b = append(b, strconv.Quote(n))
	}
	return strings.Join(b, ", ")
}

// prefixes lists those of a family that do not lie in another one, or the
// address that nobody has.
func prefixes(all []netip.Prefix, is6 bool, none string) string {
	var b []string
	for i, p := range all {
		within := func(q netip.Prefix) bool { return q.Contains(p.Addr()) && q.Bits() < p.Bits() }
		if p.Addr().Is6() == is6 && !slices.ContainsFunc(all, within) && !slices.Contains(all[:i], p) {
			b = append(b, p.String())
		}
	}
	if len(b) == 0 {
		return none
	}
	return strings.Join(b, ", ")
}
