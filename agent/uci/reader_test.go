// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// show is what `uci show` prints of sections, but for the file's name.
func show(sections []Section) string {
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "%s=%s\n", s, s.Type)
		for _, o := range s.Options {
			fmt.Fprintf(&b, "%s.%s=", s, o.Name)
			for i, v := range o.Values {
				if i > 0 {
					b.WriteByte(' ')
				}
				fmt.Fprintf(&b, "'%s'", strings.ReplaceAll(v, "'", `'\''`))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// What uci itself writes, and whatever else libuci reads.
func TestGrammar(t *testing.T) {
	const head, sec = "config wan 'a'\n", "a=wan\n"
	for _, tt := range []struct{ name, text, want string }{
		{"escaped quote, as uci commit writes it", head + "\toption x 'it'\\''s'\n", sec + `a.x='it'\''s'` + "\n"},
		{"list value twice, as uci add_list writes it", head + "\tlist x '1'\n\tlist x '2'\n\tlist x '1'\n", sec + "a.x='1' '2' '1'\n"},
		{"package, as uci export writes it", "package braid\n\n" + head + "\toption x '1'\n\n", sec + "a.x='1'\n"},
		{"two lines", head + "\toption x 'l1\nl2'\n", sec + "a.x='l1\nl2'\n"},
		{"empty value", head + "\toption x ''\n\toption y '1'\n", sec + "a.y='1'\n"},
		{"no value", head + "\toption x\n", sec},
		{"empty value changes nothing", head + "\toption x '1'\n\toption x ''\n", sec + "a.x='1'\n"},
		{"empty value of a list", head + "\tlist x ''\n\tlist x '1'\n", sec + "a.x='1'\n"},
		{"quoted type and name", "config 'wan' \"a\"\n\toption 'x' 1\n", sec + "a.x='1'\n"},
		{"CR LF", "config wan 'a'\r\n\r\n# c\r\n\toption x '1'\r\n\toption y 2\r\n", sec + "a.x='1'\na.y='2'\n"},
		{"CR LF in a value", head + "\toption x '1\r\n2'\r\n", sec + "a.x='1\r\n2'\n"},
		{"no newline at the end", head + "\toption x 1", sec + "a.x='1'\n"},
		{"escapes in double quotes", head + `option x "a\"b\\c\d"`, sec + `a.x='a"b\cd'` + "\n"},
		{"backslash in single quotes", head + `option x 'a\b\'`, sec + `a.x='a\b\'` + "\n"},
		{"escapes without quotes", head + `option x a\ b\'c\#d\;e`, sec + `a.x='a b'\''c#d;e'` + "\n"},
		{"line goes on", head + "option x a\\\nb\noption y \"c\\\nd\"\noption z e\\\r\nf", sec + "a.x='ab'\na.y='cd'\na.z='ef'\n"},
		{"line goes on with a blank", head + "option x a\\\n b\n", "2: unexpected text after the value: \"b\""},
		{"parts", head + `option x a'b'"c"d`, sec + "a.x='abcd'\n"},
		{"semicolon", head + "option x '1';option y '2' ; list z 3", sec + "a.x='1'\na.y='2'\na.z='3'\n"},
		{"semicolon behind a word loses the rest", head + "option x a;option y b\noption z c\n", sec + "a.x='a'\na.z='c'\n"},
		{"semicolon instead of a value", head + "option x ; option y 1", "2: unexpected text after the value: \"option\""},
		{"comment in a word", head + "option x a#b\noption y 'c'#d", sec + "a.x='a'\na.y='c'\n"},
		{"comment instead of a name", "config wan # c\noption x 1\n", "@wan[0]=wan\n@wan[0].x='1'\n"},
		{"empty name", "config wan ''\n", "@wan[0]=wan\n"},
		{"short keywords", "c wan a\no x 1\nl y 2\n", sec + "a.x='1'\na.y='2'\n"},
		{"odd type", "config w.x-y a\nconfig w.x-y\nconfig t_w", "a=w.x-y\n@w.x-y[1]=w.x-y\n@t_w[0]=t_w\n"},
		{"other blanks", "\v\fconfig\twan \ra\n option x\v'1'\n", sec + "a.x='1'\n"},
		{"control characters and letters", head + "option x '\x01ü\xff'\n", sec + "a.x='\x01ü\xff'\n"},

		{"unknown", head + "\toptoin x 1\n", `2: what begins with "optoin" is neither config, option nor list`},
		{"keyword and type in one", "configwan a\n\toption x 1\n", `1: what begins with "configwa" is neither config, option nor list`},
		{"keyword alone", "config\n", `1: nothing follows "config"`},
		{"nothing behind a keyword", head + "option ", `2: the option name is missing or has characters that it may not have: ""`},
		{"dash in the option name", head + "option x-y 1\n", `2: the option name is missing or has characters that it may not have: "x-y"`},
		{"blank in the type", "config 'w x'\n", `1: the section type is missing or has characters that it may not have: "w x"`},
		{"blank in the name", "config wan 'a b'\n", `1: the section name is not made of letters, digits and _ alone: "a b"`},
		{"name of two types", head + "config rule 'a'\n", "2: the section a was of type wan before"},
		{"two values", head + "option x 1 2\n", `2: unexpected text after the value: "2"`},
		{"two statements", head + "option x '1' option y '2'\n", `2: unexpected text after the value: "option"`},
		{"option first", "option x 1\n", "1: option before the first section"},
		{"quote not closed", head + "option x 'a\n\noption y 1\n", "2: the quote ' is not closed"},
		{"a key in two pieces", head + "option key 8f1c0b7e5d2a4936 a7c4e1f0b3d28596\n", "2: unexpected text after the value: \"a7c4e1f0\""},
		{"a key alone", head + "8f1c0b7e5d2a4936a7c4e1f0b3d28596\n", `2: what begins with "8f1c0b7e" is neither config, option nor list`},
		{"several", head + "optoin x 1\noption x 1 2\n", "2: what begins with \"optoin\" is neither config, option nor list\n3: unexpected text after the value: \"2\""},
		{"byte order mark", "\ufeff" + head, "1: the file begins with a byte order mark: save it as UTF-8 without one"},
		{"UTF-16", "\xff\xfec\x00o\x00", "1: the file is UTF-16: save it as UTF-8 without a byte order mark"},
		{"UTF-16, the other way", "\xfe\xff\x00c\x00o", "1: the file is UTF-16: save it as UTF-8 without a byte order mark"},
		{"null byte", head + "option x '1\x002'\n", "2: the file has a null byte: it is no text, or not in UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, tt.text)
			p, err := Load(dir, "braid")
			got := show(p.Sections)
			var syntax *SyntaxError
			if errors.As(err, &syntax) {
				got = strings.ReplaceAll(err.Error(), filepath.Join(dir, "braid")+":", "")
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestCRLF(t *testing.T) {
	for text, want := range map[string]int{"": 0, "config a\n": 0, "config a\r\nconfig b\r\n": 1, "#\n#\r\n": 2, "#\r": 0} {
		if p, err := Load(write(t, text), "braid"); err != nil || p.CRLF != want {
			t.Errorf("%q: CR LF on line %d, want %d, %v", text, p.CRLF, want, err)
		}
	}
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

// FuzzLoad checks that what is read of a file is what go-uci reads of its
// canonical copy, and that what uci would write of it is read as the same.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"config wan 'a'\n\toption x '1'\n\tlist y \"2\" # c\n\tlist y 3#c\nconfig rule\nconfig wan a\n\tlist x 4\n",
		"config wan '' # x\n", "config wan #x\n", "config a-b\noption x \\'\n", "\tconfig\ta\tb", "list", "option a 'b\\'",
		"config w\r\n", "package 'x'\n", "config w\n option x 'a'b\n option y \x00\n", "config a option b\n option c 'd'",
		"c a;o b 'c';l d \"e\\\n\";", "config a\noption b '\noption c '\n", "config a\noption x \\",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, err := scan("braid", []byte(text))
		if err != nil {
			return
		}
		want := outline(statements)
		p, err := Load(write(t, text), "braid")
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, p.Sections); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
		again, err := scan("braid", []byte(export(want)))
		if err != nil {
			t.Fatalf("%q, written again: %v", text, err)
		}
		for i := range want {
			want[i].Again = 0
		}
		if diff := cmp.Diff(want, outline(again)); diff != "" {
			t.Errorf("%q, written again: -want +got\n%s", text, diff)
		}
	})
}

// export writes sections as uci does.
func export(sections []Section) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	var b strings.Builder
	b.WriteString("package braid\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\nconfig %s %s\n", quote(s.Type), quote(s.Name))
		for _, o := range s.Options {
			keyword := "option"
			if o.List {
				keyword = "list"
			}
			for _, v := range o.Values {
				fmt.Fprintf(&b, "\t%s %s %s\n", keyword, o.Name, quote(v))
			}
		}
	}
	return b.String()
}
