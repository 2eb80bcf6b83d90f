// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package uci reads files in the format of OpenWrt's Unified Configuration
// Interface into sections. It knows no section types and no option names,
// and never writes.
//
// A file is taken apart here, as libuci does it, OpenWrt's own reader: the
// grammar of go-uci is narrower. What was found is handed to go-uci in a
// canonical copy, which it reads right.
package uci

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	gouci "github.com/digineo/go-uci"
)

// MaxSize is the largest file Load reads, in bytes.
const MaxSize = 1 << 20

// Package is the content of one file.
type Package struct {
	Path     string // of the file, for messages
	Sections []Section

	// CRLF is the first line that ends as lines do on Windows, 0 if none does.
	// A blank to libuci, the CR is part of a value that goes over lines.
	CRLF int
}

// Section is one section of a package.
type Section struct {
	Type    string
	Name    string // empty: anonymous
	Index   int    // among the sections of its type, from 0
	Options []Option

	// Again is the line on which the file opens the section a second time,
	// 0 if it does not. UCI merges the two; people seldom mean that.
	Again int
}

// String returns the name, or for an anonymous section what the uci command
// calls it: @type[index].
func (s Section) String() string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("@%s[%d]", s.Type, s.Index)
}

// Option is one option of a section, with all its values.
type Option struct {
	Name   string
	Values []string // at least one
	List   bool     // written as list, not as option
}

// Load reads the file dir/name. As for libuci, an option without a value, or
// with an empty one, is not there.
//
// The error wraps os.ErrNotExist for a missing file and for nothing else; it is
// a *SyntaxError for one that libuci would not read either, or which is too
// large for go-uci.
func Load(dir, name string) (Package, error) {
	p := Package{Path: filepath.Join(dir, name)}
	raw, err := read(p.Path)
	if err != nil {
		return Package{}, err
	}
	statements, err := scan(p.Path, raw)
	if err != nil {
		return Package{}, err
	}
	p.Sections = outline(statements)
	p.CRLF = crlf(raw)
	// go-uci opens files on its own. That there is no place for the copy says
	// nothing of the file: no %w.
	private, err := os.MkdirTemp("", "braid-uci-")
	if err != nil {
		return Package{}, fmt.Errorf("copying %s: %v", p.Path, err)
	}
	defer os.RemoveAll(private)
	if err := os.WriteFile(filepath.Join(private, name), canonical(p.Sections), 0o600); err != nil {
		return Package{}, fmt.Errorf("copying %s: %v", p.Path, err)
	}
	if err := refill(gouci.NewTree(private), name, p.Sections); err != nil {
		return Package{}, fmt.Errorf("reading %s: %v", p.Path, err)
	}
	return p, nil
}

// crlf is the first line, from 1, that ends in CR LF; 0 if there is none.
func crlf(raw []byte) int {
	i := bytes.Index(raw, []byte("\r\n"))
	if i < 0 {
		return 0
	}
	return 1 + bytes.Count(raw[:i], []byte("\n"))
}

// read returns the content of a regular file of at most MaxSize bytes.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	// A FIFO would hang, a device might never end.
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", path, MaxSize)
	}
	return raw, nil
}

// outline makes sections of statements as libuci does: option replaces, list
// adds, a section that is named again goes on.
func outline(statements []statement) []Section {
	var (
		sections []Section
		count    = make(map[string]int) // of sections, by type
		named    = make(map[string]int) // position in sections
		current  *Section
	)
	for _, st := range statements {
		if st.keyword == "config" {
			at, again := named[st.value]
			if again {
				current = &sections[at]
				current.Again = cmp.Or(current.Again, st.line)
				continue
			}
			sections = append(sections, Section{Type: st.name, Name: st.value, Index: count[st.name]})
			current = &sections[len(sections)-1]
			count[st.name]++
			if st.value != "" {
				named[st.value] = len(sections) - 1
			}
			continue
		}
		if st.value == "" {
			continue // libuci keeps it in lists, where it means nothing either
		}
		o := current.option(st.name)
		if o.List = st.keyword == "list"; !o.List {
			o.Values = nil
		}
		o.Values = append(o.Values, st.value)
	}
	return sections
}

// option returns the option called name, which it adds if there is none.
func (s *Section) option(name string) *Option {
	i := slices.IndexFunc(s.Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		i = len(s.Options)
		s.Options = append(s.Options, Option{Name: name})
	}
	return &s.Options[i]
}

// SyntaxError lists the lines of a file that cannot be read faithfully.
type SyntaxError struct {
	Path  string
	Lines []Line // at least one, ascending
}

// Line is what is wrong with one line of a file.
type Line struct {
	Number int // from 1
	Reason string
}

// Error returns one path:line: reason per line of text.
func (e *SyntaxError) Error() string {
	lines := make([]string, len(e.Lines))
	for i, l := range e.Lines {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.Path, l.Number, l.Reason)
	}
	return strings.Join(lines, "\n")
}
