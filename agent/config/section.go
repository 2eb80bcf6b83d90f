// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"braid/agent/uci"
)

// section reads the options of one section and notes what is wrong.
type section struct {
	uci.Section
	path     string
	known    []string // options asked for
	problems *Problems
}

func (s *section) errorf(option, format string, args ...any) {
	s.add(Problem{Option: option, Message: fmt.Sprintf(format, args...)})
}

func (s *section) warnf(option, format string, args ...any) {
	s.add(Problem{Option: option, Message: fmt.Sprintf(format, args...), Warning: true})
}

func (s *section) add(p Problem) {
	p.Path, p.Section = s.path, s.String()
	*s.problems = append(*s.problems, p)
}

// has reports whether the section has the option.
func (s *section) has(option string) bool { return s.values(option) != nil }

// values returns all values of an option, nil if it is not set.
func (s *section) values(option string) []string {
	for _, o := range s.Options {
		if o.Name == option {
			return o.Values
		}
	}
	return nil
}

// one reads an option that has one value into v, which keeps its default if
// the option is not set or wrong.
func one[T any](s *section, option string, v *T, parse func(string) (T, error)) {
	s.known = append(s.known, option)
	values := s.values(option)
	switch {
	case values == nil:
	case len(values) > 1:
		s.errorf(option, "takes one value, not the %d given", len(values))
	default:
		got, err := parse(values[0])
		if err != nil {
			s.errorf(option, "%v", err)
			return
		}
		*v = got
	}
}

// many reads a list into v, which keeps its default if the option is not set.
func many[T any](s *section, option string, v *[]T, parse func(string) (T, error)) {
	s.known = append(s.known, option)
	values := s.values(option)
	if values == nil {
		return
	}
	list := make([]T, 0, len(values))
	for i, text := range values {
		if slices.Contains(values[:i], text) {
			s.warnf(option, "%q is given twice", text)
			continue
		}
		got, err := parse(text)
		if err != nil {
			if strings.ContainsAny(text, " \t") {
				err = fmt.Errorf("%w; a list takes one value a line", err)
			}
			s.errorf(option, "%v", err)
			continue
		}
		list = append(list, got)
	}
	*v = list
}

// rest warns of the options that were not asked for.
func (s *section) rest() {
	for _, o := range s.Options {
		if !slices.Contains(s.known, o.Name) {
			s.warnf(o.Name, "unknown option%s", suggest(o.Name, s.known))
		}
	}
}

// suggest names the word that text is closest to, if it could be a slip.
func suggest(text string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if d := distance(text, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}

// distance is the Levenshtein distance of a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
