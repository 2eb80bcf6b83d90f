// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each case is a file of a package that is tested for real.
func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		summary    string
		shown      string
		fails      bool
	}{
		{"passes", `func TestA(t *testing.T) { t.Log("quiet"); t.Run("1", ok); t.Run("2", ok) }; func TestB(t *testing.T) {}`,
			"ok: 3 tests in 1s", "ok  \tsample\t", false},
		{"skips", `func TestA(t *testing.T) { t.Run("1", ok); t.Run("2", func(t *testing.T) { t.Skip("the moon is out") }) }`,
			"ok: 2 tests in 1s; 1 were skipped", "the moon is out", false},
		{"one below fails", `func TestA(t *testing.T) { t.Run("1", ok); t.Run("2", func(t *testing.T) { t.Error("no cheese") }) }`,
			"FAIL: 1 of 2 tests in 1s: sample.TestA/2", "no cheese", true},
		{"one passes the second time", `func TestA(t *testing.T) { t.Run("1", ok); t.Run("2", func(t *testing.T) { if _, err := os.Stat("been"); err != nil { os.Mkdir("been", 0o700); t.Error("too late") } }) }; func TestB(t *testing.T) {}`,
			"ok: 3 tests in 1s; passed at the second try only: sample.TestA/2", "too late", false},
		{"two fail, and one again", `func TestA(t *testing.T) { if _, err := os.Stat("been"); err != nil { os.Mkdir("been", 0o700); t.Error("too late") } }; func TestB(t *testing.T) { t.Error("no tea") }`,
			"FAIL: 1 of 2 tests in 1s: sample.TestB; passed at the second try only: sample.TestA", "no tea", true},
		{"all fail", `func TestA(t *testing.T) { if _, err := os.Stat("been"); err != nil { os.Mkdir("been", 0o700); for i := range 21 { t.Run(fmt.Sprint(i), func(t *testing.T) { t.Error("too late") }) } } }`,
			"FAIL: 21 of 21 tests in 1s: ", "too late", true},
		{"one above fails", `func TestA(t *testing.T) { t.Run("1", ok); t.Error("no bread") }`,
			"FAIL: 1 of 2 tests in 1s: sample.TestA", "no bread", true},
		{"panics", `func TestA(t *testing.T) {}; func TestB(t *testing.T) { panic("fire") }`,
			"FAIL: 1 of 2 tests in 1s: sample.TestB", "panic: fire", true},
		{"exits", `func TestA(t *testing.T) { os.Exit(3) }`, "FAIL: 1 of 1 tests in 1s: sample.TestA", "FAIL\tsample", true},
		{"fails outside of tests", `func TestMain(m *testing.M) { m.Run(); os.Exit(1) }; func TestA(t *testing.T) {}`,
			"FAIL: 1 of 2 tests in 1s: sample", "FAIL\tsample", true},
		{"does not compile", `func TestA(t *testing.T) { nowhere() }`, "FAIL: 1 of 1 tests in 1s: sample [sample.test]", "undefined: nowhere", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"go.mod":         "module sample\n\ngo 1.26\n",
				"sample_test.go": "package sample\n\nimport (\n\"fmt\"\n\"os\"\n\"testing\"\n)\n\nvar _, _ = os.Exit, fmt.Sprint\n\nfunc ok(*testing.T) {}\n\n" + tt.file + "\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(dir)
			var shown strings.Builder
			tally := runTwice(&shown, []string{"./..."})
			if len(tally.failed) > 0 != tt.fails {
				t.Errorf("%v have failed", tally.failed)
			}
			if got := tally.summary(time.Second); got != tt.summary && (len(tally.failed) < manyFailed || !strings.HasPrefix(got, tt.summary)) {
				t.Errorf("it says %q, want %q", got, tt.summary)
			}
			if !strings.Contains(shown.String(), tt.shown) || strings.Contains(shown.String(), "quiet") {
				t.Errorf("it shows %s", &shown)
			}
		})
	}
}

// What runs beside each other counts together.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":         "module sample\n\ngo 1.26\n",
		"sample_test.go": "package sample\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n\nfunc TestB(t *testing.T) { t.Error(\"no jam\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	tally := runTwice(&lines{w: t.Output()}, []string{"-run TestA ./...", "-skip TestA ./...", "./nowhere"})
	if got, want := tally.summary(time.Second), "FAIL: 2 of 3 tests in 1s: sample.TestB "; !strings.HasPrefix(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
}
