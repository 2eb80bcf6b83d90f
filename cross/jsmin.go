// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"bytes"
	"errors"
	"strings"
)

// Minify takes out of JavaScript what means nothing: comments, and spaces and
// line ends that separate nothing. It goes by the same rules as jsmin, with
// which OpenWrt's luci.mk ships pages, so that what is tested here is what
// users get. Names stay as they are.
func Minify(source []byte) ([]byte, error) {
	m := minifier{in: source}
	for {
		space, err := m.skip()
		if err != nil {
			return nil, err
		}
		if len(m.in) == 0 {
			return m.out.Bytes(), nil
		}
		if space != 0 && separates(m.last, space, m.in[0]) {
			m.out.WriteByte(space)
		}
		if err := m.token(); err != nil {
			return nil, err
		}
	}
}

type minifier struct {
	in   []byte
	out  bytes.Buffer
	last byte // written, but for spaces; 0: nothing yet
}

// skip passes over spaces and comments. What is left of them is a line end if
// there was one, else a space, else nothing.
func (m *minifier) skip() (space byte, err error) {
	for len(m.in) > 0 {
		c := m.in[0]
		switch {
		case c == '\n', c == '\r':
			space = '\n'
			m.in = m.in[1:]
		case c <= ' ':
			space = max(space, 1)
			m.in = m.in[1:]
		case bytes.HasPrefix(m.in, []byte("//")):
			space = '\n'
			_, m.in, _ = bytes.Cut(m.in, []byte("\n"))
		case bytes.HasPrefix(m.in, []byte("/*")):
			_, rest, closed := bytes.Cut(m.in[2:], []byte("*/"))
			if !closed {
				return 0, errors.New("a comment has no end")
			}
			space = max(space, 1)
			m.in = rest
		default:
			if space == 1 {
				space = ' '
			}
			return space, nil
		}
	}
	return 0, nil
}

// token copies a string or a regular expression as a whole, else one byte.
func (m *minifier) token() error {
	c := m.in[0]
	n := 1
	switch {
	case c == '\'' || c == '"' || c == '`':
		n = literal(m.in, c)
	case c == '/' && strings.IndexByte("(,=:[!&|?+-~*/{};", m.last) >= 0:
		n = literal(m.in, c)
	}
	if n == 0 {
		return errors.New("a string or a regular expression has no end")
	}
	m.out.Write(m.in[:n])
	m.in, m.last = m.in[n:], c
	return nil
}

// literal is how long what begins and ends with a character is; 0: for ever.
// In a class of a regular expression that character stands for itself.
func literal(in []byte, end byte) int {
	class := false
	for i := 1; i < len(in); i++ {
		switch c := in[i]; {
		case c == '\\':
			i++
		case end == '/' && c == '[':
			class = true
		case end == '/' && c == ']':
			class = false
		case c == end && !class:
			return i + 1
		}
	}
	return 0
}

// separates says whether a space or a line end between two characters has to
// stay.
func separates(before, space, after byte) bool {
	if before == 0 {
		return false
	}
	if space == ' ' {
		return word(before) && word(after) || sign(before) && sign(after)
	}
	ends := word(before) || strings.IndexByte("}])+-\"'`", before) >= 0
	begins := word(after) || strings.IndexByte("{[(+-!~", after) >= 0
	return ends && begins
}

// word says whether a character is part of a name or a number.
func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c == '\\' || c > 126
}

func sign(c byte) bool { return strings.IndexByte("+-*/", c) >= 0 }

// MinifyCSS takes comments and spaces out of a style sheet that has none of
// them in strings.
func MinifyCSS(source []byte) []byte {
	var b strings.Builder
	for text := string(source); text != ""; {
		before, rest, _ := strings.Cut(text, "/*")
		b.WriteString(before)
		_, text, _ = strings.Cut(rest, "*/")
	}
	css := strings.Join(strings.Fields(b.String()), " ")
	for _, c := range []string{"{", "}", ";", ","} {
		css = strings.ReplaceAll(strings.ReplaceAll(css, " "+c, c), c+" ", c)
	}
	return []byte(strings.ReplaceAll(strings.ReplaceAll(css, ": ", ":"), ";}", "}"))
}
