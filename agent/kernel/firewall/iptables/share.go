// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

// The hash has two stages: over all WANs of the role, and over those that work
// for what the first stage leaves. So the flows of a WAN stay where they are
// when another one comes or goes.
const (
	seedAll    = 0x62726169
	seedUsable = 0x64736563
)

// shares are the rules that choose a WAN by the addresses of both ends.
func (t *text) shares(f plan.Firewall) (rules []string) {
	all := f.Family(t.v6).Shares
	var usable []plan.Share
	for _, s := range all {
		if s.Usable {
			usable = append(usable, s)
		}
	}
	if len(usable) == 0 {
		return nil
	}
	if t.v6 { // who signs addresses takes the best line, which is the one to keep them
		rules = signed()
	}
	for _, k := range f.Family(t.v6).Kept {
		rules = append(rules, fmt.Sprintf("-s %v -d %v -p tcp -g %s%s", k.Host, k.Server, prefix, wanChain(k.Mark)))
	}
	if len(usable) == 1 {
		return append(rules, "-g "+prefix+wanChain(usable[0].Mark))
	}
	rules = append(rules, t.hash(all, seedAll)...)
	if len(usable) < len(all) {
		rules = append(rules, t.hash(usable, seedUsable)...)
	}
	return rules
}

// public keeps flows from a LAN's public addresses where they would be without us.
func (t *text) public(f plan.Firewall) (rules []string) {
	for _, p := range f.Public {
		if !t.v6 {
			rules = append(rules, fmt.Sprintf("-s %v -j RETURN", p))
		}
	}
	return rules
}

func (t *text) hash(all []plan.Share, seed uint32) (rules []string) {
	total := 0
	for _, s := range all {
		total += s.Weight
	}
	first := 0
	for _, s := range all {
		if s.Usable {
			rules = append(rules, fmt.Sprintf("-m bpf --bytecode %q -g %s%s",
				t.program(seed, uint32(total), uint32(first), uint32(first+s.Weight)), prefix, wanChain(s.Mark)))
		}
		first += s.Weight
	}
	return rules
}

// fewHops is classic BPF that matches packets with less than plan.LeastHops to
// go: the match that knows these (ttl, hl) is seldom there.
func (t *text) fewHops() string {
	at := 8 // the time to live
	if t.v6 {
		at = 7
	}
	return fmt.Sprintf("4,%d 0 0 %d,%d 1 0 %d,%d 0 0 1,%d 0 0 0", unix.BPF_LD|unix.BPF_ABS|unix.BPF_B, at,
		unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, plan.LeastHops, unix.BPF_RET|unix.BPF_K, unix.BPF_RET|unix.BPF_K)
}

// program is classic BPF, as text, that matches packets whose addresses hash,
// modulo total, to first or more and less than last. xtables has no match that
// hashes both addresses; a program may have 64 instructions, and this one has
// 60 at most.
func (t *text) program(seed, total, first, last uint32) string {
	const (
		ldImm = unix.BPF_LD | unix.BPF_IMM
		ldAbs = unix.BPF_LD | unix.BPF_ABS | unix.BPF_W
		ldx   = unix.BPF_LDX | unix.BPF_MEM
		st    = unix.BPF_ST
		tax   = unix.BPF_MISC | unix.BPF_TAX
		xor   = unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X
		mul   = unix.BPF_ALU | unix.BPF_MUL | unix.BPF_K
		rsh   = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
		mod   = unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K
		jge   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K

		odd1, odd2 = 0x9e3779b1, 0x85ebca6b // large primes, which spread bits
	)
	addresses, words := 12, 2 // where the source address is, the other one follows
	if t.v6 {
		addresses, words = 8, 8
	}
	var code []string
	add := func(op, jt, jf int, k uint32) { code = append(code, fmt.Sprintf("%d %d %d %d", op, jt, jf, k)) }
	add(ldImm, 0, 0, seed)
	add(st, 0, 0, 0)
	for i := range words {
		add(ldx, 0, 0, 0)
		add(ldAbs, 0, 0, uint32(addresses+4*i))
		add(xor, 0, 0, 0)
		add(mul, 0, 0, odd1)
		add(st, 0, 0, 0)
	}
	for _, shift := range []uint32{16, 15} { // high bits into the low ones
		add(tax, 0, 0, 0)
		add(rsh, 0, 0, shift)
		add(xor, 0, 0, 0)
		add(mul, 0, 0, odd2)
	}
	add(rsh, 0, 0, 8)
	add(mod, 0, 0, total)
	add(jge, 2, 0, last)
	add(jge, 0, 1, first)
	add(ret, 0, 0, 1)
	add(ret, 0, 0, 0)
	return fmt.Sprintf("%d,%s", len(code), strings.Join(code, ","))
}
