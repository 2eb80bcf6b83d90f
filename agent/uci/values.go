// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// FromValues turns the table "values" of the answer to
// ubus call uci get '{"config":"NAME"}' into sections (rpcd, uci.c): each
// member is a section with .type, .name, .anonymous and .index, and its
// options as strings or arrays of strings. Options come sorted by name.
func FromValues(values map[string]any) ([]Section, error) {
	type indexed struct {
		Section
		index int // among all sections
	}
	var all []indexed
	for key, v := range values {
		table, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("section %s: %T instead of a table", key, v)
		}
		index, ok := integer(table[".index"])
		if !ok {
			return nil, fmt.Errorf("section %s: .index is %v", key, table[".index"])
		}
		s, err := fromTable(table)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", key, err)
		}
		all = append(all, indexed{s, index})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].index < all[j].index })

	sections := make([]Section, len(all))
	for i, s := range all {
		sections[i] = s.Section
	}
	count(sections)
	return sections, nil
}

// FromList is FromValues for tables that come in order; what .index they have
// does not matter.
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

// integer takes a number as blobmsg or JSON decoders give it.
func integer(v any) (int, bool) {
	switch n := v.(type) {
	case int:
		return n, true
	case int32:
		return int(n), true
	case uint32:
		return int(n), true
	case int64:
		return int(n), true
	case float64:
		return int(n), n == float64(int(n))
	}
	return 0, false
}
