// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The file in the package is valid and does nothing, and its examples are
// valid too.
func TestShippedFile(t *testing.T) {
	raw, err := os.ReadFile("../../files/etc/config/braid")
	if err != nil {
		t.Fatal(err)
	}
	c, problems := parseText(t, string(raw))
	if problems != nil {
		t.Error(problems)
	}
	if c.Globals.Enabled || c.WANs != nil || c.Converters != nil || c.Rules != nil {
		t.Errorf("it does something: %+v", c)
	}

	example := regexp.MustCompile(`(?m)^#([^ \n])`)
	c, problems = parseText(t, example.ReplaceAllString(string(raw), "$1"))
	if problems != nil {
		t.Error(problems)
	}
	if c.Globals.Enabled || len(c.WANs) != 3 || len(c.Converters) != 1 || len(c.Rules) != 2 {
		t.Errorf("the examples: %+v", c)
	}
}

// The reference has a line for each option and for no other, and its examples
// together are a valid configuration.
func TestReference(t *testing.T) {
	raw, err := os.ReadFile("../../docs/uci.md")
	if err != nil {
		t.Fatal(err)
	}
	// Sections are headed ## `globals`; an option is the first of four cells.
	var (
		heading = regexp.MustCompile("^## `([a-z]+)`$")
		row     = regexp.MustCompile("^\\| `([a-z0-9_]+)` \\|[^|]*\\|[^|]*\\|[^|]*\\|$")
		typ     string
		found   = make(map[string]bool)
	)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if m := heading.FindStringSubmatch(line); m != nil {
			typ = m[1]
		}
		if m := row.FindStringSubmatch(line); m != nil {
			found[typ+"."+m[1]] = true
		}
	}
	for _, option := range options() {
		if !found[option] {
			t.Errorf("%s is not described", option)
		}
		delete(found, option)
	}
	for option := range found {
		t.Errorf("%s is described and does not exist", option)
	}

	var examples strings.Builder
	for _, m := range regexp.MustCompile("(?s)```\n(config .*?)```").FindAllStringSubmatch(string(raw), -1) {
		examples.WriteString(m[1])
	}
	c, problems := parseText(t, examples.String())
	if problems != nil {
		t.Error(problems)
	}
	if len(c.WANs) != 2 || len(c.Converters) != 2 || len(c.Rules) != 2 {
		t.Errorf("the examples: %+v", c)
	}
}
