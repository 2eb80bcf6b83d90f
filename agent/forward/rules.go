// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import "strings"

// Rules are the base chains that forwarded packets go through. The zero value
// has none and accepts all.
type Rules struct {
	hooks   []hook
	helpers []Ports
}

// hook is a base chain.
type hook struct {
	table      *table
	chain      string
	policy     outcome
	ipv4, ipv6 bool
}

// table has chains that call each other.
type table struct{ chains map[string][]rule }

// rule does what its first branch says that matches, or nothing.
type rule []branch

// branch is what is done when all conditions hold.
type branch struct {
	when []condition
	then verdict
}

// condition says whether it holds for a flow.
type condition func(Flow) truth

// truth is that of a condition, in the order in which the least is that of all
// and the greatest that of any.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func (t truth) not() truth { return yes - t }

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func possible(Flow) truth { return maybe }

// outcome is a set of what may come of a packet.
type outcome uint8

const (
	accepted  outcome = 1 << iota
	dropped           // or refused
	returned          // to where the chain was called from
	continued         // with the next rule

	anything = accepted | dropped | returned | continued
)

// verdict is an outcome, or that of another chain.
type verdict struct {
	is    outcome // 0: the chain's
	chain string
	back  bool // what the chain returns goes on behind the rule (jump); else it returns (goto)
}

// oursPrefix begins the names of chains of our own, which say nothing of what
// others let through.
const oursPrefix = "BRAID_"

func call(chain string, back bool) verdict {
	if strings.HasPrefix(chain, oursPrefix) {
		return verdict{is: continued}
	}
	return verdict{chain: chain, back: back}
}

// Verdict is what becomes of a flow. The order of base chains does not matter:
// what one accepts the next may drop, and what is dropped anywhere is dropped.
func (r Rules) Verdict(f Flow) Verdict {
	all := true
	for _, h := range r.hooks {
		if f.IPv6 && !h.ipv6 || !f.IPv6 && !h.ipv4 {
			continue
		}
		w := walk{f, h.table, make(map[string]outcome)}
		o := w.run(h.chain)
		if o&returned != 0 {
			o = o&^returned | h.policy
		}
		if o == dropped {
			return Drops
		}
		all = all && o == accepted
	}
	if all {
		return Accepts
	}
	return Either
}

// walk is the way of a flow through a table.
type walk struct {
	flow  Flow
	table *table
	known map[string]outcome // of chains
}

// run is what comes of a flow in a chain, all but continued.
func (w walk) run(chain string) outcome {
	if o, ok := w.known[chain]; ok {
		return o
	}
	// Of a chain that calls itself, which the kernel does not let be, or that is
	// not there.
	w.known[chain] = anything &^ continued
	rules, ok := w.table.chains[chain]
	if !ok {
		return w.known[chain]
	}
	o := continued
	for _, r := range rules {
		o = o&^continued | w.apply(r)
		if o&continued == 0 {
			break
		}
	}
	if o&continued != 0 {
		o = o&^continued | returned
	}
	w.known[chain] = o
	return o
}

func (w walk) apply(r rule) (o outcome) {
	for _, b := range r {
		holds := yes
		for _, c := range b.when {
			holds = min(holds, c(w.flow))
		}
		if holds == no {
			continue
		}
		o |= w.follow(b.then)
		if holds == yes {
			return o
		}
	}
	return o | continued
}

func (w walk) follow(v verdict) outcome {
	if v.is != 0 {
		return v.is
	}
	o := w.run(v.chain)
	if v.back && o&returned != 0 {
		o = o&^returned | continued
	}
	return o
}

// target is the verdict of one of iptables' targets, which nftables may have as
// well.
func target(name string) verdict {
	switch name {
	case "ACCEPT":
		return verdict{is: accepted}
	case "DROP", "REJECT":
		return verdict{is: dropped}
	case "RETURN":
		return verdict{is: returned}
	case "AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "DSCP", "HL", "LOG", "MARK", "NFLOG", "NOTRACK", "SECMARK",
		"SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL":
		return verdict{is: continued}
	}
	return call(name, true)
}

// The conditions that can be judged of a new flow. It has the state new, and
// comes to an address that nobody has put in the place of another.

func state(name string) truth {
	switch strings.ToLower(name) {
	case "new":
		return yes
	case "established", "related", "invalid":
		return no
	}
	return maybe
}

func status(name string) truth {
	if strings.ToLower(name) == "dnat" {
		return no
	}
	return maybe
}

func direction(name string) truth {
	switch strings.ToLower(name) {
	case "original":
		return yes
	case "reply":
		return no
	}
	return maybe
}
