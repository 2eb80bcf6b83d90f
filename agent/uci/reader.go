// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"bytes"
	"errors"
	"fmt"
)

// maxLines is how many lines a SyntaxError lists at most.
const maxLines = 20

// statement is what a file says at one place: config TYPE [NAME],
// option NAME VALUE or list NAME VALUE.
type statement struct {
	line    int    // from 1, where it begins
	keyword string // config, option, list
	name    string // the section's type or the option's name
	value   string // the section's name, maybe empty, or the option's value
}

// reader takes a file apart as libuci does (file.c). What it reads is a line, to
// which others are appended where a value goes on.
type reader struct {
	rest []byte // what follows the line
	line []byte
	pos  int // in line
	read int // lines so far
}

// next replaces what stands behind offset by the file's next line, and is false
// at the end of the file.
func (r *reader) next(offset int) bool {
	end := bytes.IndexByte(r.rest, '\n') + 1
	if end == 0 {
		end = len(r.rest)
	}
	r.line = append(r.line[:offset], r.rest[:end]...)
	r.rest = r.rest[end:]
	r.read++
	return end > 0
}

// end is what libuci calls a null byte: the end of what was read.
const end = 0

func (r *reader) char() byte {
	if r.pos < len(r.line) {
		return r.line[r.pos]
	}
	return end
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func (r *reader) skipSpace() {
	for isSpace(r.char()) {
		r.pos++
	}
}

// keywords may be cut to their first letter.
var keywords = map[string]string{
	"p": "package", "package": "package", "c": "config", "config": "config",
	"o": "option", "option": "option", "l": "list", "list": "list",
}

// statement reads the next one of the line; that of a line which says nothing
// more, or names a package, has no keyword. On an error it holds what was
// understood.
func (r *reader) statement() (st statement, more bool, err error) {
	st.line = r.read
	for r.char() == ' ' || r.char() == '\t' {
		r.pos++
	}
	if r.char() == end || r.char() == '#' {
		return st, false, nil
	}
	word := r.line[r.pos:]
	if i := bytes.IndexAny(word, " \t"); i >= 0 {
		word = word[:i]
	}
	r.pos += len(word)
	keyword, ok := keywords[string(word)]
	switch {
	case !ok && keywords[string(bytes.TrimSpace(word))] != "":
		return st, false, fmt.Errorf("nothing follows %q", bytes.TrimSpace(word))
	case !ok:
		return st, false, fmt.Errorf("what begins with %.8q is neither config, option nor list", bytes.TrimSpace(word)) // a key may stand there
	}
	st.keyword = keyword
	r.pos++

	if st.name, err = r.argument(); err != nil {
		return st, false, err
	}
	valid, what := isName, "option name"
	switch keyword {
	case "config":
		valid, what = isType, "section type"
	case "package":
		valid, what = isPackage, "package's name"
	}
	if !valid(st.name) {
		return st, false, fmt.Errorf("the %s is missing or has characters that it may not have: %q", what, st.name)
	}
	if keyword == "package" { // libuci, too, takes the name from the file's
		st = statement{line: st.line}
	} else if st.value, err = r.argument(); err != nil {
		return st, false, err
	}
	if keyword == "config" && st.value != "" && !isName(st.value) {
		return st, false, fmt.Errorf("the section name is not made of letters, digits and _ alone: %q", st.value)
	}
	extra, err := r.argument()
	if err == nil && extra != "" {
		err = fmt.Errorf("unexpected text after the value: %.8q", extra)
	}
	return st, err == nil, err
}

// argument reads a word, whose parts may be quoted, or none: "" for both.
func (r *reader) argument() (string, error) {
	r.skipSpace()
	if r.char() == ';' {
		r.pos++
		return "", nil
	}
	var word []byte
	start := r.pos
	for {
		var err error
		switch c := r.char(); c {
		case '\'', '"':
			word, err = r.quoted(word, c)
		case '\\':
			word = r.escaped(word)
		case '#':
			r.line = r.line[:r.pos]
		case ';':
			// libuci ends a word by a null byte behind it. If nothing was
			// taken out of the word that is where the semicolon is, and the
			// rest of the line is lost.
			if start+len(word) == r.pos {
				r.line = r.line[:r.pos]
			}
			return string(word), nil
		case end:
		default:
			word = append(word, c)
			r.pos++
		}
		switch {
		case err != nil:
			return "", err
		case r.char() == end:
			return string(word), nil
		case isSpace(r.char()):
			r.pos++
			return string(word), nil
		}
	}
}

// quoted appends a part in quotes, which may go over lines.
func (r *reader) quoted(word []byte, quote byte) ([]byte, error) {
	opened := r.read
	r.pos++
	for {
		switch c := r.char(); {
		case c == quote:
			r.pos++
			return word, nil
		case c == end:
			if !r.next(r.pos) {
				r.read = opened
				return word, fmt.Errorf("the quote %c is not closed", quote)
			}
		case c == '\\' && quote == '"':
			word = r.escaped(word)
		default:
			word = append(word, c)
			r.pos++
		}
	}
}

// escaped appends the character behind a backslash, or nothing if that is the
// end of the line: then the next one continues it.
func (r *reader) escaped(word []byte) []byte {
	r.pos++
	switch rest := string(r.line[min(r.pos, len(r.line)):]); rest {
	case "", "\n", "\r\n":
		r.next(r.pos)
		return word
	}
	word = append(word, r.char())
	r.pos++
	return word
}

// scan returns the statements of a file, or a *SyntaxError.
func scan(path string, raw []byte) ([]statement, error) {
	if err := encoding(raw); err != nil {
		return nil, &SyntaxError{Path: path, Lines: []Line{*err}}
	}
	var (
		statements []statement
		wrong      []Line
		check      checker
		r          = reader{rest: raw}
	)
	for len(wrong) < maxLines {
		r.pos = 0
		if !r.next(0) {
			break
		}
		r.skipSpace()
		for more := true; more; {
			var st statement
			var err error
			st, more, err = r.statement()
			if err = check.statement(st, err); err != nil {
				wrong = append(wrong, Line{Number: max(st.line, 1), Reason: err.Error()})
				break
			}
			if st.keyword != "" {
				statements = append(statements, st)
			}
		}
	}
	if len(wrong) > 0 {
		return nil, &SyntaxError{Path: path, Lines: wrong}
	}
	return statements, nil
}

// encoding says what is wrong with a file that is no text as libuci reads it.
func encoding(raw []byte) *Line {
	switch {
	case bytes.HasPrefix(raw, []byte("\xff\xfe")), bytes.HasPrefix(raw, []byte("\xfe\xff")):
		return &Line{1, "the file is UTF-16: save it as UTF-8 without a byte order mark"}
	case bytes.HasPrefix(raw, []byte("\ufeff")):
		return &Line{1, "the file begins with a byte order mark: save it as UTF-8 without one"}
	}
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return &Line{1 + bytes.Count(raw[:i], []byte("\n")), "the file has a null byte: it is no text, or not in UTF-8"}
	}
	return nil
}

// checker holds what has been seen of a file: some statements are wrong only
// because of earlier ones.
type checker struct {
	types   map[string]string // of named sections
	options map[string]bool   // of this section
	opened  bool
	unknown bool // the section could not be read: what is in it is not to blame

	sections, values int
}

// Bounds on what go-uci is given. It searches sections, options and list
// values one after the other on every line, so that its time grows with at
// least the square of these.
const (
	maxSections = 512
	maxOptions  = 256  // of one section
	maxValues   = 4096 // of all lists
)

// statement checks the next one, or passes on what is wrong with it already.
func (c *checker) statement(st statement, err error) error {
	switch {
	case st.keyword == "config":
		c.opened, c.unknown, c.options = true, err != nil, make(map[string]bool)
		if c.types == nil {
			c.types = make(map[string]string)
		}
		if typ, again := c.types[st.value]; again && err == nil && typ != st.name {
			return fmt.Errorf("the section %s was of type %s before", st.value, typ)
		}
		if c.sections++; c.sections > maxSections && err == nil {
			return fmt.Errorf("more than %d sections", maxSections)
		}
		if st.value != "" && err == nil {
			c.types[st.value] = st.name
		}
		return err
	case err != nil:
		c.unknown = c.unknown || !c.opened // it may have been meant to open one
		return err
	case st.keyword == "":
		return nil
	case !c.opened && !c.unknown:
		return errors.New(st.keyword + " before the first section")
	}
	if c.options != nil {
		c.options[st.name] = true
	}
	if st.keyword == "list" {
		c.values++
	}
	switch {
	case c.values > maxValues:
		return fmt.Errorf("more than %d values in lists", maxValues)
	case len(c.options) > maxOptions:
		return fmt.Errorf("more than %d options in one section", maxOptions)
	}
	return nil
}

// isName, isType and isPackage report what libuci takes for the name of an
// option or a section, the type of a section, and the name of a package
// (uci_validate_str).
func isName(s string) bool {
	return isMadeOf(s, func(c byte) bool { return isWord(c) })
}

func isType(s string) bool {
	return isMadeOf(s, func(c byte) bool { return c > ' ' && c < 0x7f })
}

func isPackage(s string) bool {
	return isMadeOf(s, func(c byte) bool { return isWord(c) || c == '-' })
}

func isMadeOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return s != ""
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
