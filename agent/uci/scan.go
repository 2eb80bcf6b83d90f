// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"errors"
	"fmt"
	"strings"
)

// maxLines is how many lines a SyntaxError lists at most.
const maxLines = 20

// statement is one line that says something: config TYPE [NAME],
// option NAME VALUE or list NAME VALUE.
type statement struct {
	line    int    // from 1
	keyword string // config, option, list; empty for blank lines and comments
	name    string // the section's type or the option's name
	value   string // the section's name, maybe empty, or the option's value
}

// scan returns the statements of a file that keeps to the part of the grammar
// which libuci (parse.c) and go-uci (lexer.go) read alike, and a *SyntaxError
// for any other.
func scan(path string, raw []byte) ([]statement, error) {
	var (
		statements []statement
		misread    []Line
		seen       = newHistory()
	)
	for i, text := range strings.SplitAfter(string(raw), "\n") {
		st, err := scanLine(text)
		st.line = i + 1
		if err == nil {
			err = seen.add(st)
		} else if st.keyword == "config" || seen.current == nil {
			// The options below it are not to blame.
			seen.current = newSeen("")
		}
		if err != nil {
			misread = append(misread, Line{Number: st.line, Reason: err.Error()})
			if len(misread) == maxLines {
				break
			}
			continue
		}
		if st.keyword != "" {
			statements = append(statements, st)
		}
	}
	if len(misread) > 0 {
		return nil, &SyntaxError{Path: path, Lines: misread}
	}
	return statements, nil
}

// scanLine takes one line apart. On an error the statement holds what was
// understood.
func scanLine(text string) (st statement, err error) {
	text, ended := strings.CutSuffix(text, "\n")
	if strings.HasSuffix(text, "\r") {
		return st, errors.New("the line ends in CR LF")
	}
	for _, c := range []byte(text) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return st, fmt.Errorf("control character 0x%02x", c)
		}
	}
	rest := skipBlanks(text)
	if rest == "" || rest[0] == '#' {
		return st, nil
	}
	st.keyword, rest = cutWord(rest)
	switch st.keyword {
	case "config", "option", "list":
	default:
		return st, fmt.Errorf("%q is neither config, option nor list", st.keyword)
	}

	what := "option name"
	if st.keyword == "config" {
		what = "section type"
	}
	st.name, rest = cutWord(skipBlanks(rest))
	if !isName(strings.ReplaceAll(st.name, "-", "_")) {
		return st, fmt.Errorf("the %s is missing or not made of letters, digits and _ alone: %q", what, st.name)
	}
	if st.keyword == "config" {
		st.value, err = sectionName(rest)
		return st, err
	}
	// go-uci takes a dash here, libuci rejects it.
	if strings.Contains(st.name, "-") {
		return st, fmt.Errorf("the option name has a dash: %q", st.name)
	}
	st.value, err = value(rest)
	if err == nil && !ended && !strings.HasSuffix(text, "'") && !strings.HasSuffix(text, `"`) {
		err = errors.New("the last line has neither quotes around its value nor a newline")
	}
	return st, err
}

// sectionName reads what follows the type of a section.
func sectionName(text string) (string, error) {
	if skipBlanks(text) == "" {
		return "", nil
	}
	// go-uci would make it the name.
	if skipBlanks(text)[0] == '#' {
		return "", errors.New("a comment follows a section that has no name")
	}
	name, err := value(text)
	if err == nil && !isName(name) {
		err = fmt.Errorf("the section name is not made of letters, digits and _ alone: %q", name)
	}
	return name, err
}

// value reads the value that ends a line, maybe with a comment behind it.
func value(text string) (string, error) {
	blanks := len(text) - len(skipBlanks(text))
	text = text[blanks:]
	switch {
	case text == "" || text[0] == '#' || blanks == 0:
		return "", errors.New("there is no value")
	case text[0] == '\'' || text[0] == '"':
		return quoted(text)
	}
	v, rest := cutWord(text)
	if i := strings.IndexAny(v, `'"\;`); i >= 0 {
		return "", fmt.Errorf("%c in a value without quotes", v[i])
	}
	return v, atEnd(rest)
}

// quoted reads a value in quotes; text begins with the opening one.
func quoted(text string) (string, error) {
	v, rest, closed := strings.Cut(text[1:], text[:1])
	switch {
	case strings.Contains(v, `\`):
		// An escape to libuci within double quotes, to go-uci within
		// single ones too, and then it keeps the backslash.
		return "", errors.New("backslash in a value")
	case !closed:
		return "", errors.New("the quote is not closed on its line")
	case v == "":
		return "", errors.New("the value is empty")
	}
	return v, atEnd(rest)
}

// atEnd accepts blanks and a comment.
func atEnd(text string) error {
	if rest := skipBlanks(text); rest != "" && rest[0] != '#' {
		return fmt.Errorf("unexpected text after the value: %q", rest)
	}
	return nil
}

func skipBlanks(s string) string { return strings.TrimLeft(s, " \t") }

// cutWord cuts s before the first blank or comment.
func cutWord(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t#"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// isName reports whether libuci takes s as a name (uci_validate_str).
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		default:
			return false
		}
	}
	return s != ""
}
