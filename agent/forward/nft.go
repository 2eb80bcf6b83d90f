// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import "strings"

// ourTable is the name of our own tables in nftables.
const ourTable = "braid"

// AddNFT adds the base chains of what `nft -s -t list ruleset` lists (versions
// 0.9 to 1.1). What stands in named sets and maps is not known.
func (r *Rules) AddNFT(listing string) error {
	tokens, err := tokenize(listing)
	if err != nil {
		return err
	}
	for _, line := range split(tokens, lineEnd) {
		// table FAMILY NAME { ... }
		if len(line) < 4 || !line[0].is("table") || !line[3].braces || line[2].text == ourTable {
			continue
		}
		switch family := line[1].text; family {
		case "inet", "ip", "ip6":
			r.addTable(line[3].group, family != "ip6", family != "ip")
		}
	}
	return nil
}

func (r *Rules) addTable(body []token, ipv4, ipv6 bool) {
	t := &table{chains: make(map[string][]rule)}
	var hooks []hook
	for _, line := range split(body, lineEnd) {
		switch {
		case len(line) > 1 && line[0].is("flags"):
			for _, flag := range line[1:] {
				if flag.is("dormant") {
					return
				}
			}
		case len(line) > 2 && line[0].is("chain") && line[2].braces:
			name := line[1].text
			var rules []rule
			for _, l := range split(line[2].group, lineEnd) {
				switch {
				case len(l) == 0:
				case l[0].is("type"):
					if policy, ok := forwards(l); ok {
						hooks = append(hooks, hook{t, name, policy, ipv4, ipv6})
					}
				default:
					rules = append(rules, parseRule(l))
					r.help(helped(l))
				}
			}
			t.chains[name] = rules
		}
	}
	r.hooks = append(r.hooks, hooks...)
}

// forwards reads the line that makes a chain a base chain.
func forwards(line []token) (policy outcome, ok bool) {
	policy = accepted
	for i := range len(line) - 1 {
		switch next := line[i+1]; {
		case line[i].is("hook"):
			ok = next.is("forward")
		case line[i].is("policy") && next.is("drop"):
			policy = dropped
		}
	}
	return policy, ok
}

// statement reads a rule, one expression or statement at a time.
type statement struct {
	reader
	when     []condition
	branches []branch
}

func parseRule(line []token) rule {
	s := statement{reader: reader{line}}
	for len(s.rest) > 0 {
		if _, ok := s.skip("comment"); ok {
			s.next()
			continue
		}
		if len(s.branches) > 0 { // nothing should follow a verdict
			s.doubt()
		}
		s.step()
	}
	for i := range s.branches {
		s.branches[i].when = append(s.branches[i].when, s.when...)
	}
	return s.branches
}

// doubt says that the rule has a condition that cannot be judged.
func (s *statement) doubt() { s.when = append(s.when, possible) }

func (s *statement) decide(v verdict) { s.branches = append(s.branches, branch{then: v}) }

// step reads what comes next.
func (s *statement) step() {
	if sel, ok := s.selector(); ok {
		s.match(sel)
		return
	}
	switch t := s.next(); {
	case t.quoted, t.braces:
		s.doubt()
	case t.text == "vmap":
		s.verdictMap(nil)
	case t.text == "accept", t.text == "drop", t.text == "return", t.text == "continue", t.text == "jump", t.text == "goto":
		s.decide(s.verdict(t.text))
	case t.text == "reject":
		s.decide(verdict{is: dropped})
		s.reason()
	case t.text == "queue":
		s.decide(verdict{is: accepted | dropped | continued})
		s.toComment()
	case t.text == "counter":
		if _, ok := s.skip("packets"); ok {
			s.next()
			if _, ok := s.skip("bytes"); ok {
				s.next()
			}
		} else if _, ok := s.skip("name"); ok {
			s.next()
		}
	case t.text == "log":
		for {
			if _, ok := s.skip("prefix", "level", "group", "snaplen", "queue-threshold"); !ok {
				break
			}
			s.next()
		}
	case t.text == "notrack":
	case t.text == "xt": // of iptables, for which nft has no words
		s.foreign()
	case t.text == garbled, t.text == "synproxy", t.text == "fwd":
		s.doubt()
		s.decide(verdict{is: anything})
	case t.text == "ip", t.text == "ip6": // may also be a value of something else
		if _, ok := s.skip("saddr", "daddr", "protocol", "nexthdr"); ok {
			s.only(t.text == "ip6")
		}
		s.doubt()
	default:
		s.doubt()
	}
}

// verdict reads the rest of a verdict that begins with a word.
func (s *reader) verdict(word string) verdict {
	switch word {
	case "accept":
		return verdict{is: accepted}
	case "drop":
		return verdict{is: dropped}
	case "return":
		return verdict{is: returned}
	case "continue":
		return verdict{is: continued}
	case "jump", "goto":
		if t := s.next(); !t.braces && t.text != "" {
			return call(t.text, word == "jump")
		}
	}
	return verdict{is: anything}
}

// only says that the rule is for one family.
func (s *statement) only(ipv6 bool) {
	s.when = append(s.when, func(f Flow) truth { return truthOf(f.IPv6 == ipv6) })
}

// reason reads the answer of a refusal. What it asks for is not listed again
// among the conditions.
func (s *statement) reason() {
	s.skip("with")
	switch s.peek().text {
	case "icmp":
		s.only(false)
	case "icmpv6":
		s.only(true)
	case "tcp":
		s.doubt()
	}
	s.toComment()
}

// toComment skips what else a statement says.
func (s *statement) toComment() {
	for len(s.rest) > 0 && !s.peek().is("comment") {
		s.next()
	}
}

func (s *statement) foreign() {
	switch kind, name := s.next().text, s.next().text; {
	case kind == "match" && name == "comment":
	case kind == "target":
		s.decide(target(name))
	default:
		s.doubt()
	}
}

// selector is a property of packets: whether it has a value.
type selector struct {
	is   func(f Flow, value token) truth
	bits bool // several values with commas are a set of flags
}

var unknown = selector{is: func(Flow, token) truth { return maybe }}

// selector reads a property that can be judged.
func (s *statement) selector() (selector, bool) {
	if len(s.rest) == 0 || s.rest[0].quoted || s.rest[0].braces {
		return selector{}, false
	}
	words, word := 1, s.rest[0].text
	if (word == "meta" || word == "ct") && len(s.rest) > 1 {
		words, word = 2, word+" "+s.rest[1].text
	}
	sel := selector{}
	switch strings.TrimPrefix(word, "meta ") {
	case "iifname", "iif":
		sel.is = func(f Flow, v token) truth { return device(v, f.In) }
	case "oifname", "oif":
		sel.is = func(f Flow, v token) truth { return device(v, f.Out) }
	case "nfproto":
		sel.is = func(f Flow, v token) truth { return family(f, v, "ipv4", "ipv6") }
	case "protocol":
		sel.is = func(f Flow, v token) truth { return family(f, v, "ip", "ip6") }
	case "ct state":
		sel = selector{func(_ Flow, v token) truth { return state(v.text) }, true}
	case "ct status":
		sel = selector{func(_ Flow, v token) truth { return status(v.text) }, true}
	case "ct direction":
		sel.is = func(_ Flow, v token) truth { return direction(v.text) }
	default:
		return selector{}, false
	}
	s.rest = s.rest[words:]
	return sel, true
}

// device compares a device's name with "eth0", or "eth*".
func device(v token, name string) truth {
	if !v.quoted {
		return maybe // the index of a device that is gone, or no value
	}
	want := v.text
	if literal, ok := strings.CutSuffix(want, `\*`); ok {
		return truthOf(name == literal+"*")
	}
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return truthOf(strings.HasPrefix(name, prefix))
	}
	return truthOf(name == want)
}

func family(f Flow, v token, ipv4, ipv6 string) truth {
	switch {
	case v.is(ipv4):
		return truthOf(!f.IPv6)
	case v.is(ipv6):
		return truthOf(f.IPv6)
	}
	return maybe
}

// match reads what a selector, or several in a row, is compared with.
func (s *statement) match(first selector) {
	sels := []selector{first}
	for {
		if _, ok := s.skip("."); !ok {
			break
		}
		sel, ok := s.selector()
		if !ok {
			sel = unknown
			for t := s.peek(); len(s.rest) > 0 && !t.braces && !t.quoted && !t.is(".") && !t.is("vmap") && !strings.HasPrefix(t.text, "@") && !isOperator(t); t = s.peek() {
				s.next()
			}
		}
		sels = append(sels, sel)
	}
	op, _ := s.skip("==", "!=", "!")
	if _, ok := s.skip("vmap"); ok {
		s.verdictMap(sels)
		return
	}
	var is condition
	sure := true // that what is not so is the contrary
	switch t := s.peek(); {
	case len(s.rest) == 0:
		is = possible
	case t.braces:
		s.next()
		is = anyOf(sels, split(t.group, ","))
	case len(sels) == 1 && first.bits:
		values := [][]token{{s.next()}}
		for {
			if _, ok := s.skip(","); !ok {
				break
			}
			values = append(values, []token{s.next()})
		}
		is = anyOf(sels, values)
		// With several it may mean none of these flags, or not exactly these.
		sure = op != "!=" || len(values) == 1
	default:
		value := []token{s.next()}
		for range sels[1:] {
			if _, ok := s.skip("."); ok {
				value = append(value, token{text: "."}, s.next())
			}
		}
		is = anyOf(sels, [][]token{value})
	}
	if op == "!=" || op == "!" {
		equal := is
		is = func(f Flow) truth {
			if t := equal(f); sure || t != yes {
				return t.not()
			}
			return maybe
		}
	}
	s.when = append(s.when, is)
}

func isOperator(t token) bool { return t.is("==") || t.is("!=") || t.is("!") }

// anyOf says whether selectors have one of some values, "a" . "b" each.
func anyOf(sels []selector, values [][]token) condition {
	var each []condition
	for _, v := range values {
		each = append(each, has(sels, v))
	}
	return func(f Flow) truth {
		is := no
		for _, c := range each {
			is = max(is, c(f))
		}
		return is
	}
}

func has(sels []selector, value []token) condition {
	parts := split(value, ".")
	if len(parts) != len(sels) {
		return possible // contents that are not shown among them
	}
	for _, p := range parts {
		if len(p) != 1 {
			return possible
		}
	}
	return func(f Flow) truth {
		is := yes
		for i, p := range parts {
			is = min(is, sels[i].is(f, p[0]))
		}
		return is
	}
}

// verdictMap reads the map that follows vmap. Without selectors its keys are
// of something else.
func (s *statement) verdictMap(sels []selector) {
	t := s.next()
	if !t.braces {
		s.doubt()
		s.decide(verdict{is: anything})
		return
	}
	for _, element := range split(t.group, ",") {
		key := possible
		pair := split(element, ":")
		if len(sels) > 0 && len(pair) == 2 {
			key = has(sels, pair[0])
		}
		v := reader{pair[len(pair)-1]}
		then := v.verdict(v.next().text)
		s.branches = append(s.branches, branch{[]condition{key}, then})
	}
}
