// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"strconv"
	"strings"
)

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// Helpers are the TCP ports for whose connections somebody's rules ask for a
// helper of connection tracking. It reads what is said in them of further
// connections (FTP, SIP, IRC, PPTP), and lets those in, which it can only where
// they are forwarded. Which hosts a rule is about is not looked at.
func (r *Rules) Helpers() []Ports { return r.helpers }

func (r *Rules) help(ports []Ports) {
	for _, p := range ports {
		if !slices.Contains(r.helpers, p) {
			r.helpers = append(r.helpers, p)
		}
	}
}

// helped are the TCP ports of a rule of nftables that asks for a helper: by
// words of its own, or by iptables' target CT, for which nft has none (and which
// may be there for something else).
func helped(line []token) (ports []Ports) {
	if !say(line, "ct", "helper", "set") && !say(line, "xt", "target", "CT") {
		return nil
	}
	for i := range len(line) - 2 {
		if !say(line[i:i+2], "tcp", "dport") {
			continue
		}
		values := line[i+2 : i+3]
		if values[0].is("map") && i+3 < len(line) {
			values = line[i+3 : i+4]
		}
		if values[0].braces {
			values = values[0].group
		}
		for _, v := range values {
			if p, ok := portRange(v.text, "-"); ok && !v.quoted {
				ports = append(ports, p)
			}
		}
	}
	return ports
}

// say is whether words follow each other in a line.
func say(line []token, words ...string) bool {
	for ; len(line) >= len(words); line = line[1:] {
		same := true
		for i, w := range words {
			same = same && line[i].text == w && !line[i].braces
		}
		if same {
			return true
		}
	}
	return false
}

// helpedOptions are the TCP ports of a rule of iptables that asks for a helper.
func helpedOptions(words []string) (ports []Ports) {
	value := func(option string) string {
		if i := slices.Index(words, option); i >= 0 && i+1 < len(words) && (i == 0 || words[i-1] != "!") {
			return words[i+1]
		}
		return ""
	}
	if value("-j") != "CT" || value("--helper") == "" || value("-p") != "tcp" {
		return nil
	}
	for v := range strings.SplitSeq(value("--dport")+","+value("--dports"), ",") {
		if p, ok := portRange(v, ":"); ok {
			ports = append(ports, p)
		}
	}
	return ports
}

// portRange reads "21", or the two ends of a range.
func portRange(text, between string) (Ports, bool) {
	first, last, ok := strings.Cut(text, between)
	if !ok {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	return Ports{uint16(a), uint16(b)}, errA == nil && errB == nil && a > 0 && a <= b
}
