// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"encoding/hex"
	"fmt"
	"strings"

	gouci "github.com/digineo/go-uci"
)

// canonical writes sections in the part of the grammar which go-uci reads as
// libuci does. Values, and types that are no names, are written in hexadecimal
// digits: go-uci takes no quote within a value, no empty one, none that goes
// over lines, and a list's values but once.
func canonical(sections []Section) []byte {
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "config %s", canonicalType(s.Type))
		if s.Name != "" {
			fmt.Fprintf(&b, " '%s'", s.Name)
		}
		b.WriteByte('\n')
		for _, o := range s.Options {
			keyword := "option"
			if o.List {
				keyword = "list"
			}
			for i, v := range o.Values {
				fmt.Fprintf(&b, "\t%s %s '%d:%x'\n", keyword, o.Name, i, v)
			}
		}
	}
	return []byte(b.String())
}

// canonicalType has a prefix, so that no two types become the same.
func canonicalType(typ string) string {
	if isName(typ) {
		return "t_" + typ
	}
	return fmt.Sprintf("x_%x", typ)
}

// refill has the values read by go-uci, from a file name of tree that holds the
// canonical copy of these sections. A panic of its parser is an error.
func refill(tree gouci.Tree, name string, sections []Section) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("go-uci: %v", r)
		}
	}()
	if err := tree.LoadConfig(name, false); err != nil {
		return fmt.Errorf("go-uci: %w", err)
	}
	for _, s := range sections {
		key := s.Name
		if key == "" {
			key = fmt.Sprintf("@%s[%d]", canonicalType(s.Type), s.Index)
		}
		for i, o := range s.Options {
			values, _ := tree.Get(name, key, o.Name)
			if len(values) != len(o.Values) {
				return fmt.Errorf("go-uci has %d values of %s.%s instead of %d", len(values), s, o.Name, len(o.Values))
			}
			// The slice belongs to the tree, which is dropped.
			s.Options[i].Values = make([]string, len(values))
			for j, v := range values {
				_, digits, _ := strings.Cut(v, ":")
				text, err := hex.DecodeString(digits)
				if err != nil {
					return fmt.Errorf("go-uci's value of %s.%s: %w", s, o.Name, err)
				}
				s.Options[i].Values[j] = string(text)
			}
		}
	}
	return nil
}
