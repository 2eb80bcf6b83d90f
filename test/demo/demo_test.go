// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLeavesNothing ends the demo in the ways that people do, and looks for
// what is left of it.
func TestLeavesNothing(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./test/demo", "./agent/cmd/braid", "./mcp/cmd/braid-mcp")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	signal := func(s syscall.Signal) func(*exec.Cmd, io.Closer) {
		return func(demo *exec.Cmd, _ io.Closer) { demo.Process.Signal(s) }
	}
	for _, c := range []struct {
		name  string
		after string // this text in the output
		end   func(demo *exec.Cmd, output io.Closer)
	}{
		{"interrupted while braid carries", "braid runs now", signal(syscall.SIGINT)},
		{"terminated", "fixed line alone", signal(syscall.SIGTERM)},
		{"terminal closed", "fixed line alone", signal(syscall.SIGHUP)},
		{"output closed", "fixed line alone", func(_ *exec.Cmd, output io.Closer) { output.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			demo := exec.Command(filepath.Join(bin, "demo"), "-bin", bin)
			demo.Env = append(os.Environ(), "TMPDIR="+tmp)
			var stderr bytes.Buffer
			demo.Stderr = &stderr
			output, err := demo.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := demo.Start(); err != nil {
				t.Fatal(err)
			}
			for in := bufio.NewScanner(output); in.Scan() && !strings.Contains(in.Text(), c.after); {
			}
			time.Sleep(500 * time.Millisecond) // so that the download is under way
			if len(namespaces(t, demo)) == 0 || len(processes(t, "TMPDIR="+tmp)) == 0 {
				t.Error("there was nothing to leave: the test looks in the wrong place")
			}
			c.end(demo, output)
			start := time.Now()
			if err := demo.Wait(); demo.ProcessState.ExitCode() != 1 {
				t.Errorf("demo ended with %v, want exit status 1", err)
			}
			t.Logf("%v to clean up; it said: %s", time.Since(start), &stderr)

			if left := namespaces(t, demo); len(left) > 0 {
				t.Errorf("left namespaces %v", left)
			}
			if left := processes(t, "TMPDIR="+tmp); len(left) > 0 {
				t.Errorf("left processes %v", left)
			}
			files, err := os.ReadDir(tmp)
			if err != nil || len(files) > 0 {
				t.Errorf("left files %v, error %v", files, err)
			}
		})
	}
}

// namespaces are those of a demo.
func namespaces(t *testing.T, demo *exec.Cmd) []string {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/run/netns/braid-%d-*", demo.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// processes are the command lines of those with a setting in their environment.
func processes(t *testing.T, setting string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		// Processes that end meanwhile cannot be read, and are not left.
		if env, err := os.ReadFile(file); err == nil && bytes.Contains(env, []byte(setting)) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}
