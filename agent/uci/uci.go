// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package uci reads files in the format of OpenWrt's Unified Configuration
// Interface into sections. It knows no section types and no option names,
// and never writes.
//
// The files are read by go-uci, whose grammar is narrower than that of
// libuci, OpenWrt's own reader. A file is therefore scanned first: what the
// two would read alike is left to go-uci, for anything else libuci is asked
// through a Fallback, and where there is none the lines are reported.
package uci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	gouci "github.com/digineo/go-uci"
)

// MaxSize is the largest file Load reads, in bytes. It is also what a ubus
// message can carry, so a larger file could not be had from libuci either.
const MaxSize = 1 << 20

// Package is the content of one file.
type Package struct {
	Path     string // of the file, for messages
	Sections []Section
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

// A Fallback reads a package as libuci does, for files that need it.
type Fallback interface {
	// Package returns the sections of the committed package name; changes
	// not yet committed must not show.
	Package(ctx context.Context, name string) ([]Section, error)
}

// Load reads the file dir/name. Whatever go-uci would reject or misread is
// asked of fb, which must read from the same directory; fb may be nil.
//
// The error wraps os.ErrNotExist for a missing file, and is or wraps a
// *SyntaxError for one that cannot be read faithfully.
func Load(ctx context.Context, dir, name string, fb Fallback) (Package, error) {
	p := Package{Path: filepath.Join(dir, name)}
	raw, err := read(p.Path)
	if err != nil {
		return Package{}, err
	}
	// go-uci opens files on its own. It gets a copy, so that it reads what has
	// been scanned, whatever happens to the file meanwhile.
	private, err := os.MkdirTemp("", "braid-uci-")
	if err != nil {
		return Package{}, fmt.Errorf("copying %s: %w", p.Path, err)
	}
	defer os.RemoveAll(private)
	if err := os.WriteFile(filepath.Join(private, name), raw, 0o600); err != nil {
		return Package{}, fmt.Errorf("copying %s: %w", p.Path, err)
	}
	p.Sections, err = parse(gouci.NewTree(private), p.Path, raw)
	if err != nil {
		return ask(ctx, p.Path, fb, err)
	}
	return p, nil
}

// ask has libuci read what failed here with cause.
func ask(ctx context.Context, path string, fb Fallback, cause error) (Package, error) {
	if fb == nil {
		return Package{}, cause
	}
	sections, err := fb.Package(ctx, filepath.Base(path))
	if err != nil {
		return Package{}, errors.Join(cause, fmt.Errorf("asking libuci for %s: %w", path, err))
	}
	return Package{Path: path, Sections: sections}, nil
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

// parse scans raw for the order of sections and options, which go-uci's Tree
// does not tell, and has go-uci read the values. A panic of its parser is
// returned as an error.
func parse(tree gouci.Tree, path string, raw []byte) (sections []Section, err error) {
	statements, err := scan(path, raw)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			sections, err = nil, fmt.Errorf("reading %s: go-uci: %v", path, r)
		}
	}()
	name := filepath.Base(path)
	if err := tree.LoadConfig(name, false); err != nil {
		return nil, fmt.Errorf("reading %s: go-uci: %w", path, err)
	}
	sections = outline(statements)
	for _, s := range sections {
		for i, o := range s.Options {
			values, _ := tree.Get(name, s.String(), o.Name)
			if len(values) == 0 {
				return nil, fmt.Errorf("reading %s: go-uci has no value of %s.%s", path, s, o.Name)
			}
			// The slice belongs to the tree, which is dropped with this call.
			s.Options[i].Values = values
		}
	}
	return sections, nil
}

// outline groups statements into sections whose options have no values yet.
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
		current.option(st.name).List = st.keyword == "list"
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
