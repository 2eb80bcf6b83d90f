// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Colours do not move columns.
func TestColour(t *testing.T) {
	cols := []column{{head: "NAME"}, {head: "STATE", colour: stateColour}, {head: "N", right: true}}
	rows := [][]string{{"a", "up", "1"}, {"b", "down", "22"}, {"c", "off", "333"}}
	var plain, coloured screen
	coloured.colour = true
	plain.table(cols, rows)
	coloured.table(cols, rows)
	out := coloured.String()
	for _, code := range []string{"\x1b[1m", "\x1b[31m", "\x1b[32m"} {
		if !strings.Contains(out, code) {
			t.Errorf("no %q", code)
		}
		out = strings.ReplaceAll(out, code, "")
	}
	if diff := cmp.Diff(plain.String(), strings.ReplaceAll(out, "\x1b[m", "")); diff != "" {
		t.Errorf("-plain +coloured:\n%s", diff)
	}
}

func TestColourful(t *testing.T) {
	terminal, err := os.OpenFile("/dev/null", os.O_WRONLY, 0) // a character device as well
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tt := range []struct {
		name    string
		f       *os.File
		noColor string
		term    string
		want    bool
	}{
		{"terminal", terminal, "", "xterm", true},
		{"file", file, "", "xterm", false},
		{"NO_COLOR", terminal, "1", "xterm", false},
		{"dumb", terminal, "", "dumb", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			t.Setenv("TERM", tt.term)
			if got := colourful(tt.f); got != tt.want {
				t.Error(got)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{amount(0), "0 B"}, {amount(999), "999 B"}, {amount(1000), "1.0 kB"}, {amount(999_949), "999.9 kB"}, {amount(999_950), "1.0 MB"},
		{amount(1 << 63), "9.2 EB"}, {rate(12_345_678), "12.3 Mbit/s"},
		{duration(0), "0 s"}, {duration(119), "119 s"}, {duration(120), "2 min"}, {duration(7200), "2 h"}, {duration(172_800), "2 d"},
		{milliseconds(0), "-"}, {milliseconds(9.94), "9.9 ms"}, {milliseconds(123.4), "123 ms"}, {percent(0.125), "12 %"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func TestWrap(t *testing.T) {
	got := wrap("one two three fourteen sixteenletterword", 10)
	if diff := cmp.Diff([]string{"one two", "  three", "  fourteen", "  sixteen…"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
