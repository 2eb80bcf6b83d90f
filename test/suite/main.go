// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command suite runs several `go test` as one: each argument is what one of
// them is given, words with spaces between. It shows what they show, goes on
// when one fails, and ends with one line for all: how many tests, how long.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// An interrupt is for the tests, which clean up behind them.
	signal.Ignore(os.Interrupt)
	began := time.Now()
	t := newTally(os.Stdout)
	broken := false
	for _, arg := range os.Args[1:] {
		fmt.Println("go test", arg)
		if err := run(t, strings.Fields(arg)); err != nil {
			fmt.Printf("go test %s: %v\n", arg, err)
			broken = true
		}
	}
	fmt.Println(t.summary(time.Since(began).Round(time.Second)))
	if broken || len(t.failed) > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

// run is one `go test`, whose failures are errors too.
func run(t *tally, args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	if slices.Contains(args, "-race") {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // which the race detector is made with
	}
	// A suite that is killed takes the tests with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return errors.Join(t.read(out), cmd.Wait())
}

// event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	ImportPath  string // of what does not compile
	FailedBuild string // which is why the package fails
}

// tally counts tests: those that have others below them count as these.
type tally struct {
	out             io.Writer
	passed, skipped int
	failed          []string
	// What is known of the package's tests that run.
	said    map[string][]string // what they have printed, until they have passed
	parents map[string]bool     // that have others below them
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, said: make(map[string][]string), parents: make(map[string]bool)}
}

// read takes what a `go test -json` says. As without -json, it shows of a test
// that passes nothing.
func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case err != nil && err != io.EOF:
			return fmt.Errorf("reading test events: %w", err)
		case json.Unmarshal(line, &e) != nil: // not go test's own words
			t.out.Write(line)
		default:
			t.add(e)
		}
	}
}

func (t *tally) add(e event) {
	name := e.Package + "." + e.Test
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(name, '/'); i > len(e.Package) {
			t.parents[name[:i]] = true
		}
	case "output", "build-output":
		if e.Test != "" {
			t.said[name] = append(t.said[name], e.Output)
		} else if e.Output != "PASS\n" && !strings.HasSuffix(e.Output, "[no test files]\n") {
			io.WriteString(t.out, e.Output)
		}
	case "pass", "skip":
		switch {
		case e.Test == "" || t.parents[name]:
		case e.Action == "pass":
			t.passed++
		default:
			t.skipped++
			t.show(name)
		}
		delete(t.said, name)
	case "fail":
		if e.Test == "" {
			if e.FailedBuild == "" {
				t.end(e.Package)
			}
			return
		}
		t.show(name)
		if !t.parents[name] || !t.below(name) {
			t.failed = append(t.failed, name)
		}
	case "build-fail":
		t.failed = append(t.failed, e.ImportPath)
	}
}

// below says whether one below this test has failed.
func (t *tally) below(name string) bool {
	return slices.ContainsFunc(t.failed, func(f string) bool { return strings.HasPrefix(f, name+"/") })
}

// end is that of a package which has failed: tests that have not ended by
// themselves ended with it, and it may have failed for itself.
func (t *tally) end(pkg string) {
	blamed := func(f string) bool { return f == pkg || strings.HasPrefix(f, pkg+".") }
	for name := range t.said {
		if strings.HasPrefix(name, pkg+".") {
			t.show(name)
			t.failed = append(t.failed, name)
		}
	}
	if !slices.ContainsFunc(t.failed, blamed) {
		t.failed = append(t.failed, pkg)
	}
}

func (t *tally) show(name string) {
	for _, s := range t.said[name] {
		if !strings.HasPrefix(s, "=== ") {
			io.WriteString(t.out, s)
		}
	}
	delete(t.said, name)
}

func (t *tally) summary(took time.Duration) string {
	n := t.passed + t.skipped + len(t.failed)
	switch {
	case len(t.failed) > 0:
		return fmt.Sprintf("FAIL: %d of %d tests in %v: %s", len(t.failed), n, took, strings.Join(t.failed, " "))
	case t.skipped > 0:
		return fmt.Sprintf("ok: %d tests in %v, of which %d were skipped", n, took, t.skipped)
	default:
		return fmt.Sprintf("ok: %d tests in %v", n, took)
	}
}
