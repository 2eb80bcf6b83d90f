// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command suite runs several `go test` as one: each argument is what one of
// them is given, words with spaces between, or what several are that run beside
// each other, with & between. It shows what they show, goes on when one fails,
// and ends with one line for all: how many tests, how long.
//
// Tests that fail are run a second time, with nothing beside them: they watch
// the clocks of a real kernel, and the machine may have been elsewhere. Those
// that pass then are named in the last line, since each is one to look after.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"braid/test/tcpmem"
)

func main() {
	// An interrupt is for the tests, which clean up behind them.
	signal.Ignore(os.Interrupt)
	began := time.Now()
	out := &lines{w: os.Stdout}
	all := newTally(out)
	for _, arg := range os.Args[1:] {
		giveRoom(out)
		fmt.Fprintln(out, "go test", arg)
		all.take(runTwice(out, strings.Split(arg, " & ")))
	}
	fmt.Println(all.summary(time.Since(began).Round(time.Second)))
	if len(all.failed) > 0 || all.passed == 0 {
		os.Exit(1)
	}
}

// giveRoom keeps what the machine was used for before from failing tests.
func giveRoom(out io.Writer) {
	switch raised, err := tcpmem.Room(context.Background()); {
	case err != nil:
		fmt.Fprintln(out, "making room for TCP:", err)
	case raised > 0:
		fmt.Fprintln(out, "TCP has lost memory: net.ipv4.tcp_mem is raised by", raised, "pages")
	}
}

// lines has what several write come out whole.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// manyFailed tests are not the machine's fault, and not tried again.
const manyFailed = 20

// runTwice runs several `go test` beside each other, and afterwards once more
// those of their tests that have failed.
func runTwice(out io.Writer, runs []string) *tally {
	tallies := make([]*tally, len(runs))
	var running sync.WaitGroup
	for i, r := range runs {
		tallies[i] = newTally(out)
		running.Go(func() { run(tallies[i], strings.Fields(r)) })
	}
	running.Wait()
	all := newTally(out)
	for i, t := range tallies {
		if len(t.failed) <= manyFailed {
			again(t, strings.Fields(runs[i]))
		}
		all.take(t)
	}
	return all
}

// again runs a second time the tests that have failed.
func again(t *tally, args []string) {
	for pkg, tests := range byPackage(t.failed) {
		args := slices.DeleteFunc(slices.Clone(args), func(word string) bool { return strings.HasPrefix(word, "./") })
		args = append(args, "-count=1", "-run", "^("+strings.Join(tests, "|")+")$", pkg)
		fmt.Fprintln(t.out, "once more: go test", strings.Join(args, " "))
		second := newTally(t.out)
		run(second, args)
		t.forgive(second)
	}
}

// byPackage has the names of tests, without those below them, by their packages;
// a package that has failed for itself is not among these.
func byPackage(failed []test) map[string][]string {
	names := make(map[string][]string)
	for _, f := range failed {
		top, _, _ := strings.Cut(f.name, "/")
		if !slices.Contains(names[f.pkg], top) {
			names[f.pkg] = append(names[f.pkg], top)
		}
	}
	maps.DeleteFunc(names, func(_ string, tops []string) bool { return slices.Contains(tops, "") })
	return names
}

// run is one `go test`. That it could not be run is a failure of its own.
func run(t *tally, args []string) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	if slices.Contains(args, "-race") {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // which the race detector is made with
	}
	// A suite that is killed takes the tests with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = errors.Join(t.read(out), cmd.Wait())
	}
	if err != nil && len(t.failed) == 0 {
		fmt.Fprintf(t.out, "go test %s: %v\n", strings.Join(args, " "), err)
		t.failed = append(t.failed, test{pkg: "go test " + strings.Join(args, " ")})
	}
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

// test is one of a package's, or the package itself where it has no name.
type test struct{ pkg, name string }

func (t test) String() string {
	if t.name == "" {
		return t.pkg
	}
	return t.pkg + "." + t.name
}

// tally counts tests: those that have others below them count as these.
type tally struct {
	out             io.Writer
	passed, skipped int
	good            map[test]bool // passed, those that have others below them too
	failed          []test
	late            []test // passed at the second try
	// What is known of the package's tests that run.
	said    map[string][]string // what they have printed, until they have passed
	parents map[string]bool     // that have others below them
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, good: make(map[test]bool), said: make(map[string][]string), parents: make(map[string]bool)}
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
		t.good[test{e.Package, e.Test}] = e.Action == "pass"
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
		if one := (test{e.Package, e.Test}); !t.parents[name] || !t.below(one) {
			t.failed = append(t.failed, one)
		}
	case "build-fail":
		t.failed = append(t.failed, test{pkg: e.ImportPath})
	}
}

// below says whether one below this test has failed.
func (t *tally) below(one test) bool {
	return slices.ContainsFunc(t.failed, func(f test) bool { return strings.HasPrefix(f.String(), one.String()+"/") })
}

// end is that of a package which has failed: tests that have not ended by
// themselves ended with it, and it may have failed for itself.
func (t *tally) end(pkg string) {
	for name := range t.said {
		if rest, ok := strings.CutPrefix(name, pkg+"."); ok {
			t.show(name)
			t.failed = append(t.failed, test{pkg, rest})
		}
	}
	if !slices.ContainsFunc(t.failed, func(f test) bool { return f.pkg == pkg }) {
		t.failed = append(t.failed, test{pkg: pkg})
	}
}

// take counts another one's tests too.
func (t *tally) take(o *tally) {
	t.passed += o.passed
	t.skipped += o.skipped
	t.failed = append(t.failed, o.failed...)
	t.late = append(t.late, o.late...)
}

// forgive takes the tests that have passed the second time out of those that
// have failed.
func (t *tally) forgive(second *tally) {
	t.failed = slices.DeleteFunc(t.failed, func(f test) bool {
		if second.good[f] {
			t.late = append(t.late, f)
			t.passed++
		}
		return second.good[f]
	})
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
	said := fmt.Sprintf("ok: %d tests in %v", n, took)
	if len(t.failed) > 0 {
		said = fmt.Sprintf("FAIL: %d of %d tests in %v: %s", len(t.failed), n, took, list(t.failed))
	}
	if t.skipped > 0 {
		said += fmt.Sprintf("; %d were skipped", t.skipped)
	}
	if len(t.late) > 0 {
		said += fmt.Sprintf("; passed at the second try only: %s", list(t.late))
	}
	return said
}

func list(tests []test) string {
	var names []string
	for _, t := range tests {
		names = append(names, t.String())
	}
	return strings.Join(names, " ")
}
