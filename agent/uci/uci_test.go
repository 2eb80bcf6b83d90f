// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gouci "github.com/digineo/go-uci"
	"github.com/google/go-cmp/cmp"
)

// write puts text into a file called braid and returns its directory.
func write(t testing.TB, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "braid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoad(t *testing.T) {
	text := `
# a comment, with 'quotes" and \ in it
config globals 'globals'
	option enabled '1'   # it's on
	option plain abc#def
	list lan "lan"
	list lan 'guest net'

config wan fibre # named without quotes
	option interface wan

config rule
	option once 'a'
	option once 'b'
config rule 'named'
	option grows '1'
	list grows '2'
config rule
	list shrinks '1'
	list shrinks '2'
	option shrinks '3'
config	wan	"fibre"
	option interface 'wan6'
	option later "it's"
	list empty_section_follows 'x'
config some-type
config rule
	option last 'without newline'`
	want := []Section{
		{Type: "globals", Name: "globals", Options: []Option{
			{Name: "enabled", Values: []string{"1"}},
			{Name: "plain", Values: []string{"abc"}},
			{Name: "lan", Values: []string{"lan", "guest net"}, List: true},
		}},
		{Type: "wan", Name: "fibre", Again: 22, Options: []Option{
			{Name: "interface", Values: []string{"wan6"}},
			{Name: "later", Values: []string{"it's"}},
			{Name: "empty_section_follows", Values: []string{"x"}, List: true},
		}},
		{Type: "rule", Options: []Option{{Name: "once", Values: []string{"b"}}}},
		{Type: "rule", Name: "named", Index: 1, Options: []Option{
			{Name: "grows", Values: []string{"1", "2"}, List: true},
		}},
		{Type: "rule", Index: 2, Options: []Option{{Name: "shrinks", Values: []string{"3"}}}},
		{Type: "some-type"},
		{Type: "rule", Index: 3, Options: []Option{{Name: "last", Values: []string{"without newline"}}}},
	}
	dir := write(t, text)
	got, err := Load(context.Background(), dir, "braid", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Package{Path: filepath.Join(dir, "braid"), Sections: want}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var names []string
	for _, s := range got.Sections {
		names = append(names, s.String())
	}
	wantNames := []string{"globals", "fibre", "@rule[0]", "named", "@rule[2]", "@some-type[0]", "@rule[3]"}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := write(t, "")
	if p, err := Load(context.Background(), dir, "braid", nil); err != nil || p.Sections != nil {
		t.Errorf("empty file: %v, %v", p, err)
	}
	if _, err := Load(context.Background(), dir, "absent", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	huge := bytes.Repeat([]byte("#\n"), MaxSize/2+1)
	if err := os.WriteFile(filepath.Join(dir, "huge"), huge, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"fifo": "not a regular file", "dir": "not a regular file", "huge": "larger than 1048576 bytes",
	} {
		_, err := Load(context.Background(), dir, name, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

// fallback answers with fixed sections, or an error.
type fallback struct {
	sections []Section
	err      error
	asked    []string
}

func (f *fallback) Package(_ context.Context, name string) ([]Section, error) {
	f.asked = append(f.asked, name)
	return f.sections, f.err
}

func TestLoadFallback(t *testing.T) {
	answer := []Section{{Type: "wan", Name: "a", Options: []Option{{Name: "x", Values: []string{"it's"}}}}}
	bad := write(t, "config wan 'a'\n\toption x 'it'\\''s'\n")

	f := &fallback{sections: answer}
	got, err := Load(context.Background(), bad, "braid", f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Package{Path: filepath.Join(bad, "braid"), Sections: answer}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"braid"}, f.asked); diff != "" {
		t.Errorf("asked: -want +got\n%s", diff)
	}

	f = &fallback{err: os.ErrPermission}
	_, err = Load(context.Background(), bad, "braid", f)
	var serr *SyntaxError
	if !errors.As(err, &serr) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want both the syntax error and the fallback's", err)
	}

	f = &fallback{sections: answer}
	if _, err := Load(context.Background(), write(t, "config wan 'b'\n"), "braid", f); err != nil || f.asked != nil {
		t.Errorf("a file that needs no fallback: %v, asked for %q", err, f.asked)
	}
}

// panicking is a Tree whose every method panics.
type panicking struct{ gouci.Tree }

func TestPanicIsAnError(t *testing.T) {
	_, err := parse(panicking{}, "/etc/config/braid", []byte("config wan 'a'\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "reading /etc/config/braid: go-uci: ") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConcurrently(t *testing.T) {
	dir := write(t, "config wan 'a'\n\tlist x '1'\n\tlist x '2'\n")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				p, err := Load(context.Background(), dir, "braid", nil)
				if err != nil || len(p.Sections) != 1 || len(p.Sections[0].Options[0].Values) != 2 {
					t.Errorf("got %v, %v", p, err)
				}
			}
		})
	}
	wg.Wait()
}

// A file replaced while it is read gives one version or the other.
func TestLoadWhileReplaced(t *testing.T) {
	versions := []string{
		"config wan 'a'\n\tlist x '1'\n\tlist x '2'\n",
		"config rule\n\tlist y '3'\nconfig wan 'a'\n\toption x '4'\n",
	}
	dir := write(t, versions[0])
	want := make(map[string]bool)
	for _, v := range versions {
		sections, err := parse(gouci.NewTree(write(t, v)), "braid", []byte(v))
		if err == nil {
			want[marshal(t, sections)] = true
		}
	}
	stopC := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stopC:
				return
			default:
			}
			next := filepath.Join(dir, "next")
			if err := os.WriteFile(next, []byte(versions[i%2]), 0o600); err != nil {
				t.Error(err)
				return
			}
			if err := os.Rename(next, filepath.Join(dir, "braid")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	loaded := 0
	for range 300 {
		p, err := Load(context.Background(), dir, "braid", nil)
		if err != nil {
			continue // it changed three times in a row
		}
		loaded++
		if got := marshal(t, p.Sections); !want[got] {
			t.Errorf("neither version: %s", got)
		}
	}
	close(stopC)
	wg.Wait()
	if loaded == 0 || len(want) != 2 {
		t.Errorf("%d of 300 loads came through, %d versions", loaded, len(want))
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The largest file go-uci is given takes it a bounded time.
func TestLoadLargest(t *testing.T) {
	var b strings.Builder
	for i := range maxSections / 2 {
		b.WriteString("config a\n")
		b.WriteString("config a b" + strconv.Itoa(i) + "\n")
	}
	for i := range maxOptions - 1 {
		b.WriteString("option x" + strconv.Itoa(i) + " '1'\n")
	}
	for i := range maxValues {
		b.WriteString("list y " + strconv.Itoa(i) + "\n")
	}
	for b.Len() < MaxSize-64 {
		b.WriteString("option x" + strconv.Itoa(maxOptions-2) + " '2'\n")
	}
	start := time.Now()
	if _, err := Load(context.Background(), write(t, b.String()), "braid", nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestFromValues(t *testing.T) {
	// As rpcd answers, but for the order of its members.
	answer := `{
		"cfg023fd6": {".anonymous": true, ".type": "rule", ".name": "cfg023fd6", ".index": 2, "path": "pass"},
		"fibre": {".anonymous": false, ".type": "wan", ".name": "fibre", ".index": 1,
			"weight": "10", "interface": ["wan", "wan6", "wan"], "probe": []},
		"globals": {".anonymous": false, ".type": "globals", ".name": "globals", ".index": 0},
		"last": {".anonymous": false, ".type": "rule", ".name": "last", ".index": 3}
	}`
	var values map[string]any
	if err := json.Unmarshal([]byte(answer), &values); err != nil {
		t.Fatal(err)
	}
	got, err := FromValues(values)
	if err != nil {
		t.Fatal(err)
	}
	want := []Section{
		{Type: "globals", Name: "globals"},
		{Type: "wan", Name: "fibre", Options: []Option{
			{Name: "interface", Values: []string{"wan", "wan6", "wan"}, List: true},
			{Name: "weight", Values: []string{"10"}},
		}},
		{Type: "rule", Options: []Option{{Name: "path", Values: []string{"pass"}}}},
		{Type: "rule", Name: "last", Index: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	// What a blobmsg decoder may give for .index and .anonymous.
	for _, index := range []any{int(0), int32(0), uint32(0), int64(0), float64(0)} {
		values := map[string]any{"a": map[string]any{".type": "t", ".name": "a", ".anonymous": false, ".index": index}}
		if _, err := FromValues(values); err != nil {
			t.Errorf("%T: %v", index, err)
		}
	}
}

func TestFromValuesRejects(t *testing.T) {
	with := func(key string, v any) map[string]any {
		table := map[string]any{".type": "t", ".name": "a", ".anonymous": false, ".index": 0}
		table[key] = v
		return map[string]any{"a": table}
	}
	for name, tc := range map[string]struct {
		values map[string]any
		want   string
	}{
		"no table":      {map[string]any{"a": "x"}, "section a: string instead of a table"},
		"no type":       {with(".type", nil), "section a: .type is <nil>"},
		"no name":       {with(".name", 1), "section a: .name is 1"},
		"no anonymous":  {with(".anonymous", "x"), "section a: .anonymous is x"},
		"no index":      {with(".index", nil), "section a: .index is <nil>"},
		"broken index":  {with(".index", 0.5), "section a: .index is 0.5"},
		"number":        {with("x", 1), "section a: option x is int instead of a string or list"},
		"number inside": {with("x", []any{1}), "section a: option x holds int instead of a string"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromValues(tc.values)
			if err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
