// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"strings"
)

// token is a word, a line's end, a punctuation mark, or what stands in braces.
type token struct {
	text   string
	quoted bool
	braces bool
	group  []token // in braces
}

const (
	lineEnd = "\n"
	// garbled stands for the rest of a line that could not be read.
	garbled = "#"
	// maxDepth is more than any listing has of braces in braces: tables, chains,
	// sets, elements.
	maxDepth = 16
)

var errBraces = errors.New("braces that do not match")

// tokenize reads what nft lists.
func tokenize(s string) ([]token, error) {
	stack := [][]token{nil}
	add := func(t token) { stack[len(stack)-1] = append(stack[len(stack)-1], t) }
	for len(s) > 0 {
		n := 1
		switch c := s[0]; c {
		case ' ', '\t', '\r':
		case '\n', ',', ';':
			add(token{text: s[:1]})
		case '{':
			if len(stack) == maxDepth {
				return nil, errBraces
			}
			stack = append(stack, nil)
		case '}':
			if len(stack) == 1 {
				return nil, errBraces
			}
			group := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			add(token{braces: true, group: group})
		case '"':
			end := strings.IndexAny(s[1:], "\"\n")
			if end < 0 || s[1+end] == '\n' {
				add(token{text: garbled})
				n = len(s)
				if end >= 0 {
					n = 1 + end
				}
				break
			}
			add(token{text: s[1 : 1+end], quoted: true})
			n = end + 2
		default:
			if n = strings.IndexAny(s, " \t\r\n,;{}\""); n < 0 {
				n = len(s)
			}
			add(token{text: s[:n]})
		}
		s = s[n:]
	}
	if len(stack) != 1 {
		return nil, errBraces
	}
	return stack[0], nil
}

// split cuts tokens at those of a text.
func split(tokens []token, at string) (parts [][]token) {
	begin := 0
	for i, t := range tokens {
		if t.is(at) {
			parts = append(parts, tokens[begin:i])
			begin = i + 1
		}
	}
	return append(parts, tokens[begin:])
}

// is says whether a token is that word.
func (t token) is(word string) bool { return t.text == word && !t.quoted && !t.braces }

// reader takes tokens one after the other. The token behind the last is one
// without text.
type reader struct{ rest []token }

func (r *reader) peek() token {
	if len(r.rest) == 0 {
		return token{}
	}
	return r.rest[0]
}

func (r *reader) next() token {
	t := r.peek()
	if len(r.rest) > 0 {
		r.rest = r.rest[1:]
	}
	return t
}

// skip takes the next token if it is one of those words.
func (r *reader) skip(words ...string) (string, bool) {
	for _, w := range words {
		if r.peek().is(w) && len(r.rest) > 0 {
			r.next()
			return w, true
		}
	}
	return "", false
}
