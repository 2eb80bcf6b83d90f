// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"strings"
)

// AddIPTables adds the chain FORWARD of the table filter, and the helpers of the
// table raw, as iptables-save or ip6tables-save writes them (versions 1.4 to
// 1.8).
func (r *Rules) AddIPTables(saved string, ipv6 bool) error {
	const base = "FORWARD"
	var t *table
	for line := range strings.Lines(saved) {
		words, err := unquote(line)
		switch {
		case err != nil:
			return err
		case len(words) == 0 || words[0] == "" || words[0][0] == '#':
		case words[0][0] == '*':
			t = nil
			if words[0] == "*filter" {
				t = &table{chains: make(map[string][]rule)}
			}
		case words[0] == "-A" && t == nil:
			r.help(helpedOptions(words))
		case t == nil:
		case words[0][0] == ':' && len(words) > 1:
			name := words[0][1:]
			t.chains[name] = nil
			if name == base {
				policy := accepted
				if words[1] == "DROP" {
					policy = dropped
				}
				r.hooks = append(r.hooks, hook{t, name, policy, !ipv6, ipv6})
			}
		case words[0] == "-A" && len(words) > 1:
			t.chains[words[1]] = append(t.chains[words[1]], parseOptions(words[2:]))
		}
	}
	return nil
}

// parseOptions reads a rule.
func parseOptions(words []string) rule {
	var when []condition
	negated := false
	for len(words) > 0 {
		option := words[0]
		words = words[1:]
		if option == "!" {
			negated = true
			continue
		}
		if !strings.HasPrefix(option, "-") {
			continue // more of the last option's
		}
		value := ""
		if len(words) > 0 {
			value = words[0]
		}
		is := possible
		switch option {
		case "-j":
			return rule{{when, target(value)}}
		case "-g":
			return rule{{when, call(value, false)}}
		case "--comment":
			words = words[min(1, len(words)):] // it may look like an option
			continue
		case "-m":
			if value == "comment" || value == "conntrack" || value == "state" {
				continue // its options say what it asks for
			}
		case "-i":
			is = func(f Flow) truth { return port(value, f.In) }
		case "-o":
			is = func(f Flow) truth { return port(value, f.Out) }
		case "--ctstate", "--state":
			is = listed(value, xtState)
		case "--ctstatus":
			is = listed(value, status)
		case "--ctdir":
			is = listed(value, direction)
		}
		if negated {
			equal := is
			is = func(f Flow) truth { return equal(f).not() }
		}
		negated = false
		when = append(when, is)
	}
	return nil
}

// port compares a device's name with eth0, or eth+.
func port(want, name string) truth {
	if prefix, ok := strings.CutSuffix(want, "+"); ok {
		return truthOf(strings.HasPrefix(name, prefix))
	}
	return truthOf(name == want)
}

// xtState is state for a match that counts more among the states.
func xtState(name string) truth {
	if name == "DNAT" {
		return status(name)
	}
	return state(name)
}

// listed says whether one of the values in a list with commas is so.
func listed(list string, is func(string) truth) condition {
	one := no
	for _, v := range strings.Split(list, ",") {
		one = max(one, is(v))
	}
	return func(Flow) truth { return one }
}

var errQuote = errors.New("a quotation mark that nothing ends")

// unquote cuts a line into words, which stand in quotation marks where they
// hold blanks.
func unquote(line string) (words []string, err error) {
	var word strings.Builder
	in, quoted := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			in = true
		case c == '"':
			quoted, in = !quoted, true
		case strings.IndexByte(" \t\r\n", c) >= 0 && !quoted:
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quoted {
		return nil, errQuote
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
