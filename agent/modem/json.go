// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// member is a member of a JSON object whose value is no object or array.
type member struct {
	key  string
	text string // of a string what it holds, else as it is written
}

// number is the value as a number of a size that makes sense, else 0.
func (m member) number() float64 {
	n, err := strconv.ParseFloat(m.text, 64)
	if err != nil || !(n > -1000 && n < 1000) {
		return 0
	}
	return n
}

// fraction says whether the value is written with one.
func (m member) fraction() bool { return strings.Contains(m.text, ".") }

// maxDepth bounds how deep values may be nested.
const maxDepth = 8

// parseMembers reads JSON values (RFC 8259), several in a row if need be, and
// returns the simple members of all their objects in order. encoding/json would
// add a twentieth to the program for this.
func parseMembers(text []byte) ([]member, error) {
	s := scanner{rest: strings.TrimSpace(string(text))}
	if s.rest == "" {
		return nil, errors.New("no answer")
	}
	for s.rest != "" {
		if _, _, err := s.value("", 0); err != nil {
			return nil, fmt.Errorf("reading JSON: %w", err)
		}
		s.space()
	}
	return s.members, nil
}

type scanner struct {
	rest    string
	members []member
}

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

// take takes a byte if it comes next.
func (s *scanner) take(b byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// value reads a value, and says whether it is a simple one.
func (s *scanner) value(key string, depth int) (text string, simple bool, err error) {
	s.space()
	switch {
	case depth > maxDepth:
		return "", false, errors.New("nested too deep")
	case s.rest == "":
		return "", false, errors.New("cut off")
	case s.take('{'):
		return "", false, s.list('}', func() error { return s.member(depth + 1) })
	case s.take('['):
		return "", false, s.list(']', func() error {
			_, _, err := s.value(key, depth+1)
			return err
		})
	case s.rest[0] == '"':
		text, err = s.quoted()
		return text, true, err
	}
	n := strings.IndexAny(s.rest, " \t\r\n,]}")
	if n < 0 {
		n = len(s.rest)
	}
	text, s.rest = s.rest[:n], s.rest[n:]
	if _, err := strconv.ParseFloat(text, 64); err != nil && text != "true" && text != "false" && text != "null" {
		return "", false, fmt.Errorf("%.20q is no value", text)
	}
	return text, true, nil
}

func (s *scanner) member(depth int) error {
	s.space()
	key, err := s.quoted()
	if err != nil {
		return err
	}
	if !s.take(':') {
		return fmt.Errorf("no colon after %.20q", key)
	}
	text, simple, err := s.value(key, depth)
	if err == nil && simple {
		s.members = append(s.members, member{key, text})
	}
	return err
}

// list reads what is between commas up to an end.
func (s *scanner) list(end byte, item func() error) error {
	if s.take(end) {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.take(end) {
			return nil
		}
		if !s.take(',') {
			return fmt.Errorf("neither comma nor %c", end)
		}
	}
}

// quoted reads a string.
func (s *scanner) quoted() (string, error) {
	if s.rest == "" || s.rest[0] != '"' {
		return "", errors.New("no string where one has to be")
	}
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), nil
		case c != '\\':
			b.WriteByte(c)
		case i+1 == len(s.rest):
			return "", errors.New("cut off")
		default:
			i++
			n, err := escaped(&b, s.rest[i:])
			if err != nil {
				return "", err
			}
			i += n
		}
	}
	return "", errors.New("cut off")
}

// escaped writes what an escape stands for; n is how much of it follows its
// first character.
func escaped(b *strings.Builder, text string) (n int, err error) {
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(from, text[0]); i >= 0 {
		b.WriteByte(to[i])
		return 0, nil
	}
	if text[0] != 'u' {
		return 0, fmt.Errorf("no escape is called %q", text[0])
	}
	unit := func(text string) (rune, bool) {
		if len(text) < 4 {
			return 0, false
		}
		u, err := strconv.ParseUint(text[:4], 16, 16)
		return rune(u), err == nil
	}
	r, ok := unit(text[1:])
	if !ok {
		return 0, errors.New("an escape is cut off")
	}
	if utf16.IsSurrogate(r) && strings.HasPrefix(text[5:], `\u`) {
		if low, ok := unit(text[7:]); ok {
			b.WriteRune(utf16.DecodeRune(r, low))
			return 10, nil
		}
	}
	b.WriteRune(r)
	return 4, nil
}
