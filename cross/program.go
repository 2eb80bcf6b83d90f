// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package cross

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// BudgetError says that something is too large.
type BudgetError struct {
	Name      string
	Size, Max int64
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%s has %d bytes, %d more than its budget", e.Name, e.Size, e.Size-e.Max)
}

// heavy packages double a program's size.
var heavy = []string{"net/http", "crypto/tls"}

// check compares a size with its budget, 0 being none.
func check(name string, data []byte, most int64) error {
	if size := int64(len(data)); most != 0 && size > most {
		return &BudgetError{name, size, most}
	}
	return nil
}

// program builds the package's program.
func (b Build) program(project string) ([]byte, error) {
	if b.Lean {
		if err := b.checkLean(project); err != nil {
			return nil, err
		}
	}
	return Compile(project, b.Program, b.Target, b.Version)
}

// Compile builds the program in a directory of the project, stripped and
// without a trace of where.
func Compile(project, dir string, t Target, version string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "braid-cross-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "program")
	ldflags := "-s -w -X main.version=" + version
	var small []string
	if t.Small {
		small = []string{"-gcflags=all=-l", "-gcflags=runtime="}
		ldflags += " -R 0x4000" // segments end at pages of 16 KiB, not 64, which none of these have
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out}, small...)
	if _, err := run(project, t, append(args, "./"+dir)...); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(out)
	if err != nil || !t.Small {
		return data, err
	}
	return stripSections(data)
}

func (b Build) checkLean(project string) error {
	out, err := run(project, b.Target, "list", "-deps", "./"+b.Program)
	if err != nil {
		return err
	}
	for _, pkg := range strings.Fields(out) {
		if slices.Contains(heavy, pkg) {
			return fmt.Errorf("%s links %s, which routers have no room for", b.Program, pkg)
		}
	}
	return nil
}

// run runs the go command for a target.
func run(project string, t Target, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = project, t.Env()
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s for %s: %w\n%s", args[0], t.Name, err, &errs)
	}
	return string(out), nil
}
