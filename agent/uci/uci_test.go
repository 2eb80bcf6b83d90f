// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package uci

import (
	"bytes"
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
	got, err := Load(dir, "braid")
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
	if p, err := Load(dir, "braid"); err != nil || p.Sections != nil {
		t.Errorf("empty file: %v, %v", p, err)
	}
	if _, err := Load(dir, "absent"); !errors.Is(err, os.ErrNotExist) {
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
		_, err := Load(dir, name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

// panicking is a Tree whose every method panics.
type panicking struct{ gouci.Tree }

func TestPanicIsAnError(t *testing.T) {
	err := refill(panicking{}, "braid", nil)
	if err == nil || !strings.HasPrefix(err.Error(), "go-uci: ") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConcurrently(t *testing.T) {
	dir := write(t, "config wan 'a'\n\tlist x '1'\n\tlist x '2'\n")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				p, err := Load(dir, "braid")
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
		p, err := Load(write(t, v), "braid")
		if err == nil {
			want[marshal(t, p.Sections)] = true
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
		p, err := Load(dir, "braid")
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
	if _, err := Load(write(t, b.String()), "braid"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// Only a file that is not there is missing: that there is no place for the copy
// which go-uci reads is another matter.
func TestMissing(t *testing.T) {
	dir := write(t, "config wan 'a'\n")
	t.Setenv("TMPDIR", filepath.Join(dir, "nowhere"))
	if _, err := Load(dir, "braid"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a place for the copy: %v", err)
	}
	if _, err := Load(dir, "absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}
