// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"fmt"
)

// Bounds on what go-uci is given. It searches sections, options and list
// values one after the other on every line, so that its time grows with at
// least the square of these.
const (
	maxSections = 512
	maxOptions  = 256  // of one section
	maxValues   = 4096 // of all lists
)

// history is what a scan has seen of a file: go-uci misreads some lines only
// because of earlier ones.
type history struct {
	sections int
	values   int // of lists
	named    map[string]*seen
	current  *seen
}

// seen is what was seen of one section: the values of its options.
type seen struct {
	typ     string
	options map[string]map[string]bool
}

func newHistory() *history { return &history{named: make(map[string]*seen)} }

func newSeen(typ string) *seen {
	return &seen{typ: typ, options: make(map[string]map[string]bool)}
}

// add takes the next statement, or says why go-uci would misread it.
func (h *history) add(st statement) error {
	switch st.keyword {
	case "":
		return nil
	case "config":
		return h.open(st)
	}
	if h.current == nil {
		return fmt.Errorf("%s before the first section", st.keyword)
	}
	values := h.current.options[st.name]
	if values == nil || st.keyword == "option" {
		values = make(map[string]bool)
		h.current.options[st.name] = values
	}
	if values[st.value] {
		return fmt.Errorf("the list has this value already: %q", st.value)
	}
	values[st.value] = true
	if st.keyword == "list" {
		h.values++
	}
	if h.values > maxValues {
		return fmt.Errorf("more than %d values in lists", maxValues)
	}
	if len(h.current.options) > maxOptions {
		return fmt.Errorf("more than %d options in one section", maxOptions)
	}
	return nil
}

// open enters a section, which may be one that was open before.
func (h *history) open(st statement) error {
	if s := h.named[st.value]; s != nil {
		h.current = s
		if s.typ != st.name {
			return fmt.Errorf("the section %s was of type %s before", st.value, s.typ)
		}
		return nil
	}
	h.current = newSeen(st.name)
	if st.value != "" {
		h.named[st.value] = h.current
	}
	h.sections++
	if h.sections > maxSections {
		return fmt.Errorf("more than %d sections", maxSections)
	}
	return nil
}
