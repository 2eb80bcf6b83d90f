// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	gouci "github.com/digineo/go-uci"
	"github.com/google/go-cmp/cmp"
)

// What the scan keeps from go-uci, and what go-uci makes of it, so that a
// version which has learned it is noticed.
func TestMisread(t *testing.T) {
	const head = "config wan 'a'\n"
	for _, tc := range []struct {
		name string
		text string
		want string // of SyntaxError, without the path
		// What go-uci makes of it: the values of x in each section of type
		// wan, or its error.
		library string
	}{
		{"empty value", head + "\toption x ''\n", "2: the value is empty",
			`parse error: expected option value, got (EOF "" 28)`},
		{"no value", head + "\toption x\n", "2: there is no value",
			`parse error: expected option value, got (EOF "" 25)`},
		{"escaped quote", head + "\toption x 'it'\\''s'\n", `2: unexpected text after the value: "\\''s'"`,
			`parse error: expected keyword (package, config, option, list) or eof, got "\\''s'\n"`},
		{"two lines", head + "\toption x 'l1\nl2'\n",
			"2: the quote is not closed on its line\n3: \"l2'\" is neither config, option nor list",
			"parse error: unterminated quoted string"},
		{"quoted type", "config 'wan' 'a'\n\toption x '1'\n",
			"1: the section type is missing or not made of letters, digits and _ alone: \"'wan'\"",
			`parse error: expected identifier while parsing config section, got (String "wan" 12)`},
		{"quoted option", head + "\toption 'x' '1'\n",
			"2: the option name is missing or not made of letters, digits and _ alone: \"'x'\"",
			"parse error: expected option name"},
		{"CRLF", "config wan 'a'\r\n\toption x '1'\r\n", "1: the line ends in CR LF\n2: the line ends in CR LF",
			"parse error: expected keyword (package, config, option, list) or eof, got \"\\r\\n\\toption …\""},
		{"no newline", head + "\toption x 1", "2: the last line has neither quotes around its value nor a newline",
			"parse error: unterminated unquoted string"},
		{"escape", head + "\toption x \"a\\\"b\"\n", "2: backslash in a value", `[["a\\\"b"]]`},
		{"backslash before the quote", head + "\toption x 'a\\'\n", "2: backslash in a value",
			"parse error: unterminated quoted string"},
		{"continued line", head + "\toption x a\\\nb\n",
			"2: \\ in a value without quotes\n3: \"b\" is neither config, option nor list", `[["a\\\nb"]]`},
		{"repeated list value", head + "\tlist x '1'\n\tlist x '2'\n\tlist x '1'\n",
			`4: the list has this value already: "1"`, `[["1" "2"]]`},
		{"repeated across sections", head + "\tlist x '1'\n" + head + "\tlist x '1'\n",
			`4: the list has this value already: "1"`, `[["1"]]`},
		{"quote inside a word", head + "\toption x a'b'\n", "2: ' in a value without quotes", `[["a'b'"]]`},
		{"semicolon", head + "\toption x a;b\n", "2: ; in a value without quotes", `[["a;b"]]`},
		{"two values", head + "\toption x 1 2\n", `2: unexpected text after the value: "2"`,
			`parse error: expected keyword (package, config, option, list) or eof, got "2\n"`},
		{"two statements on a line", head + "\toption x '1' option y '2'\n",
			`2: unexpected text after the value: "option y '2'"`, `[["1"]]`},
		{"keyword and type in one", "configwan a\n\toption x 1\n", `1: "configwan" is neither config, option nor list`,
			`[["1"]]`},
		{"short keywords", "c wan a\n\to x 1\n",
			"1: \"c\" is neither config, option nor list\n2: \"o\" is neither config, option nor list",
			"parse error: expected keyword (package, config, option, list) or eof, got \"c wan a\\n\\to…\""},
		{"package", "package 'braid'\n" + head, `1: "package" is neither config, option nor list`,
			"parse error: UCI imports/exports are not yet supported"},
		{"byte order mark", "\ufeff" + head, "1: \"\\ufeffconfig\" is neither config, option nor list",
			"parse error: expected keyword (package, config, option, list) or eof, got \"\\ufeffconfig …\""},
		{"comment for a name", "config wan #a\n\toption x '1'\n", "1: a comment follows a section that has no name",
			`[["1"]]`},
		{"empty section name", "config wan ''\n", "1: the value is empty", `[[]]`},
		{"section name with a blank", "config wan 'a b'\n",
			`1: the section name is not made of letters, digits and _ alone: "a b"`, `[[]]`},
		{"dash in the option name", head + "\toption x-y 1\n", `2: the option name has a dash: "x-y"`, `[[]]`},
		{"name of two types", head + "config rule 'a'\n", "2: the section a was of type wan before", `[[]]`},
		{"option first", "option x 1\n", "1: option before the first section",
			`parse error: expected package or config token, got (Option "option" 6)`},
		{"config alone", "config\n",
			`1: the section type is missing or not made of letters, digits and _ alone: ""`,
			`parse error: expected identifier while parsing config section, got (EOF "" 7)`},
		{"null byte", head + "\toption x '1\x002'\n", "2: control character 0x00", `[["1\x002"]]`},
		{"vertical tab", head + "\toption x 1\v\n", "2: control character 0x0b", `[["1\v"]]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, tc.text)
			_, err := Load(context.Background(), dir, "braid", nil)
			var serr *SyntaxError
			if !errors.As(err, &serr) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			path := filepath.Join(dir, "braid")
			if got := strings.ReplaceAll(err.Error(), path+":", ""); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if got := library(dir); got != tc.library {
				t.Errorf("go-uci: got  %s\nwant %s", got, tc.library)
			}
		})
	}
}

// library returns what go-uci alone makes of the file braid in dir.
func library(dir string) string {
	tree := gouci.NewTree(dir)
	if err := tree.LoadConfig("braid", false); err != nil {
		return err.Error()
	}
	values := [][]string{}
	names, _ := tree.GetSections("braid", "wan")
	for _, name := range names {
		x, _ := tree.Get("braid", name, "x")
		values = append(values, x)
	}
	return fmt.Sprintf("%q", values)
}

func TestBounds(t *testing.T) {
	values := new(strings.Builder)
	fmt.Fprintln(values, "config wan 'a'")
	for i := range maxValues + 1 {
		fmt.Fprintf(values, "list x '%d'\n", i)
	}
	options := new(strings.Builder)
	fmt.Fprintln(options, "config wan 'a'")
	for i := range maxOptions + 1 {
		fmt.Fprintf(options, "option x%d '1'\n", i)
	}
	for _, tc := range []struct{ name, text, want string }{
		{"sections", strings.Repeat("config wan\n", maxSections+1), "braid:513: more than 512 sections"},
		{"values", values.String(), "braid:4098: more than 4096 values in lists"},
		{"options", options.String(), "braid:258: more than 256 options in one section"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := scan("braid", []byte(tc.text))
			if err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	_, err := scan("braid", []byte(strings.Repeat("?\n", 1000)))
	var serr *SyntaxError
	if !errors.As(err, &serr) || len(serr.Lines) != maxLines {
		t.Errorf("got %v, want %d lines", err, maxLines)
	}
}

// FuzzLoad checks that go-uci reads whatever the scan lets pass as libuci
// would: option replaces, list adds, a section named again continues.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"config wan 'a'\n\toption x '1'\n\tlist y \"2\" # c\n\tlist y 3#c\nconfig rule\nconfig wan a\n\tlist x 4\n",
		"config wan '' # x\n", "config wan #x\n", "config a-b\noption x \\'\n", "\tconfig\ta\tb", "list", "option a 'b\\'",
		"config w\r\n", "package 'x'\n", "config w\n option x 'a'b\n option y \x00\n", "config a option b\n option c 'd'",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, err := scan("braid", []byte(text))
		if err != nil {
			return
		}
		want := outline(statements)
		replay(want, statements)
		got, err := parse(gouci.NewTree(write(t, text)), "braid", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
	})
}

// replay fills in values as libuci's uci_set and uci_add_list do.
func replay(sections []Section, statements []statement) {
	opened := -1
	var current *Section
	for _, st := range statements {
		switch st.keyword {
		case "config":
			current = nil
			for i := range sections[:opened+1] {
				if st.value != "" && sections[i].Name == st.value {
					current = &sections[i]
				}
			}
			if current == nil {
				opened++
				current = &sections[opened]
			}
		case "option":
			current.option(st.name).Values = []string{st.value}
		case "list":
			o := current.option(st.name)
			o.Values = append(o.Values, st.value)
		}
	}
}
