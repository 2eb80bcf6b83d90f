// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests braid as a whole: the programs that users run, in a world
// of network namespaces, judged by the kernel's counters and by bytes.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"braid/test/rig"
)

// bin is where TestMain has built the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "braid-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", dir, "./agent/cmd/braid", "./mcp/cmd/braid-mcp")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
		return 1
	}
	bin = dir
	return m.Run()
}

// start puts up a rig for the length of a test, and shows what the programs
// logged should it fail.
func start(t *testing.T, o rig.Options) *rig.Rig {
	t.Helper()
	o.Bin = bin
	r, err := rig.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range []*rig.Process{r.Agent, r.MCP} {
				if p != nil {
					t.Log(p.Log())
				}
			}
		}
	})
	return r
}
