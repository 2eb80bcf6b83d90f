// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/transport/journal"
)

// stringer, marshaler and broken say themselves what they are.
type (
	stringer  struct{ name string }
	marshaler struct{ name string }
	broken    struct{}
)

func (s stringer) String() string                { return "the " + s.name }
func (m marshaler) String() string               { return "not " + m.name }
func (m marshaler) MarshalText() ([]byte, error) { return []byte(m.name), nil }
func (broken) MarshalText() ([]byte, error)      { return nil, errors.New("no words") }

// What reads the lines of slog's TextHandler reads these.
func TestLinesAreThoseOfSlog(t *testing.T) {
	type named string
	for _, args := range [][]any{
		nil,
		{"a", "b"},
		{"empty", "", "space", "a b", "equals", "a=b", "quote", `a"b`, "backslash", `a\b`},
		{"newline", "a\nb", "tab", "\t", "NUL", "\x00", "invalid", "\xff", "replaced", "\ufffd"},
		{"letters", "über", "wide", "日本", "no-break space", "a\u00a0b", "line", "\u2028", "joiner", "\u200d"},
		{"a key", 1, "", 2, "a=b", 3, "a\"b", 4},
		{"int", -1, "uint64", uint64(math.MaxUint64), "byte", byte(7), "bool", true, "nil", nil},
		{"float", 0.25, "large", 1e30, "small", 1e-9, "NaN", math.NaN(), "infinite", math.Inf(-1)},
		{"error", errors.New("no route"), "wrapped", fmt.Errorf("dialling: %w", io.EOF), "word", io.EOF},
		{"none", error(nil), "pointer", (*stringer)(nil)},
		{"duration", 1500 * time.Millisecond, "zero", time.Duration(0)},
		{"time", time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC), "east", time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))},
		{"addr", netip.MustParseAddr("2001:db8::1%eth0"), "port", netip.MustParseAddrPort("[2001:db8::1]:443"), "invalid", netip.Addr{}},
		{"prefix", netip.MustParsePrefix("64:ff9b::/96"), "addrs", []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}},
		{"bytes", []byte("two words"), "none", []byte(nil), "stringer", stringer{"name"}, "marshaler", marshaler{"name"}, "both", &marshaler{"a b"}},
		{"broken", broken{}, "struct", struct{ A, B int }{1, 2}, "map", map[string]int{"b": 2, "a": 1}, "named", named("x y")},
		{"strings", []string{"a", "b"}, "rune", 'x'},
		{"odd", 1, "left over"},
		{1, "shifted", 2},
		{nil, io.EOF},
	} {
		synctest.Test(t, func(t *testing.T) { // where the clock stands still
			var got, want bytes.Buffer
			journal.New(&got).Warn("a message", args...)
			slog.New(slog.NewTextHandler(&want, nil)).Log(context.Background(), slog.LevelWarn, "a message", args...)
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Errorf("%q: -slog +journal:\n%s", args, diff)
			}
		})
	}
}

func TestLine(t *testing.T) {
	var b strings.Builder
	journal.New(&b).Info("listening", "address", "[::]:124")
	line := regexp.MustCompile(`^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) level=INFO msg=listening address=\[::\]:124\n$`)
	if !line.MatchString(b.String()) {
		t.Errorf("line %q", b.String())
	}
}

func TestLevels(t *testing.T) {
	var b strings.Builder
	l := journal.New(&b)
	written := func() string {
		b.Reset()
		l.Debug("x")
		l.Info("x")
		l.Warn("x")
		l.Error("x")
		var levels []string
		for line := range strings.Lines(b.String()) {
			levels = append(levels, strings.TrimPrefix(strings.Fields(line)[1], "level="))
		}
		return strings.Join(levels, " ")
	}
	if got := written(); got != "INFO WARN ERROR" {
		t.Errorf("a new log has written %s", got)
	}
	for level, want := range map[journal.Level]string{
		journal.Debug: "DEBUG INFO WARN ERROR",
		journal.Info:  "INFO WARN ERROR",
		journal.Warn:  "WARN ERROR",
		journal.Error: "ERROR",
	} {
		l.SetLevel(level)
		if got := written(); got != want {
			t.Errorf("at level %v it has written %q, want %q", level, got, want)
		}
	}
}

func TestLevelText(t *testing.T) {
	for level, name := range map[journal.Level]string{
		journal.Debug: "debug", journal.Info: "info", journal.Warn: "warn", journal.Error: "error",
	} {
		text, err := level.MarshalText()
		if err != nil || string(text) != name {
			t.Errorf("%v is written %q, %v", level, text, err)
		}
		for _, s := range []string{name, strings.ToUpper(name)} {
			got := journal.Level(9)
			if err := got.UnmarshalText([]byte(s)); err != nil || got != level {
				t.Errorf("%q is read as %v, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "loud", "info ", "INFO+1"} {
		got := journal.Warn
		if err := got.UnmarshalText([]byte(s)); err == nil || got != journal.Warn {
			t.Errorf("%q is read as %v, %v", s, got, err)
		}
	}
	if s := journal.Level(9).String(); s != "level 9" {
		t.Errorf("a level that does not exist is %q", s)
	}
}

// lines counts writes, and which of them are not exactly one line.
type lines struct{ whole, broken int }

func (l *lines) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("time=")) && bytes.HasSuffix(b, []byte("end\n")) && bytes.Count(b, []byte("\n")) == 1 {
		l.whole++
	} else {
		l.broken++
	}
	return len(b), nil
}

func TestConcurrentUse(t *testing.T) {
	const writers, each = 8, 200
	var w lines
	l := journal.New(&w)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				l.SetLevel(journal.Info - journal.Level(j%2))
				l.Info("two\nlines", "writer", i, "text", strings.Repeat("x", j), "last", "end")
			}
		})
	}
	wg.Wait()
	if w.whole != writers*each || w.broken > 0 {
		t.Errorf("%d lines and %d broken ones, want %d", w.whole, w.broken, writers*each)
	}
}
