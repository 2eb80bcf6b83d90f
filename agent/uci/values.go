// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// FromList turns tables as rpcd has them (uci.c: ubus call uci get), in order,
// into sections: each has .type, .name, .anonymous, and its options as strings
// or arrays of strings. Options come sorted by name.
func FromList(tables []map[string]any) ([]Section, error) {
	sections := make([]Section, len(tables))
	for i, table := range tables {
		s, err := fromTable(table)
		if err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		sections[i] = s
	}
	count(sections)
	return sections, nil
}

// count numbers the sections of each type.
func count(sections []Section) {
	n := make(map[string]int)
	for i, s := range sections {
		sections[i].Index = n[s.Type]
		n[s.Type]++
	}
}

func fromTable(table map[string]any) (Section, error) {
	var (
		s  Section
		ok bool
	)
	if s.Type, ok = table[".type"].(string); !ok {
		return s, fmt.Errorf(".type is %v", table[".type"])
	}
	anonymous, ok := table[".anonymous"].(bool)
	if !ok {
		return s, fmt.Errorf(".anonymous is %v", table[".anonymous"])
	}
	// libuci makes up the names of anonymous sections.
	if !anonymous {
		if s.Name, ok = table[".name"].(string); !ok {
			return s, fmt.Errorf(".name is %v", table[".name"])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if strings.HasPrefix(name, ".") {
			continue
		}
		o := Option{Name: name}
		switch v := table[name].(type) {
		case string:
			o.Values = []string{v}
		case []any:
			o.List = true
			for _, item := range v {
				text, ok := item.(string)
				if !ok {
					return s, fmt.Errorf("option %s holds %T instead of a string", name, item)
				}
				o.Values = append(o.Values, text)
			}
		default:
			return s, fmt.Errorf("option %s is %T instead of a string or list", name, v)
		}
		if len(o.Values) > 0 {
			s.Options = append(s.Options, o)
		}
	}
	return s, nil
}
