// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package dnsmasq

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Names are domain names, in lower case and without the dot at the end, whose
// addresses belong into sets.
type Names struct {
	Domains []string
	Sets    string // as the option has it: 4#inet#braid#bank_4,6#inet#braid#bank_6
}

// maxLine is how long a line may be (MAXDNAME of dnsmasq 2.90, less its end):
// it does not start with the rest of a longer one.
const maxLine = 1023

// Lines are the statements of an option, nftset or ipset, that fill the sets.
// Of those that match a name dnsmasq heeds only the longest, so each one also
// has the sets of the domains above it. What is too long for one is left out,
// and is the error.
func Lines(option string, all []Names) (lines []string, err error) {
	var domains []string
	seen := make(map[string]bool)
	for _, n := range all {
		for _, d := range n.Domains {
			if !seen[d] {
				seen[d] = true
				domains = append(domains, d)
			}
		}
	}
	sort.Strings(domains)
	for _, d := range domains {
		var sets []string
		for _, n := range all {
			if n.has(d) {
				sets = append(sets, n.Sets)
			}
		}
		line := option + "=/" + d + "/" + strings.Join(sets, ",")
		if len(line) > maxLine {
			err = errors.Join(err, fmt.Errorf("domain %s: it is in more rules than dnsmasq has room for", d))
			continue
		}
		lines = append(lines, line)
	}
	return lines, err
}

// has says whether a domain is among the names, or below one of them.
func (n Names) has(domain string) bool {
	for _, d := range n.Domains {
		if within(domain, d) {
			return true
		}
	}
	return false
}
