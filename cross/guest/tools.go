// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ip is `ip netns exec NAME COMMAND...`.
func ip(args []string) error {
	if len(args) < 4 || args[0] != "netns" || args[1] != "exec" {
		return fmt.Errorf("this machine has only ip netns exec, not %q", args)
	}
	ns, err := os.Open(filepath.Join("/run/netns", args[2]))
	if err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering %s: %w", ns.Name(), err)
	}
	ns.Close()
	program, err := exec.LookPath(args[3])
	if err != nil {
		return err
	}
	return unix.Exec(program, args[3:], os.Environ())
}

// sh is `sh -ec SCRIPT`, the script being nft with a here document.
func sh(args []string) error {
	const head, tail = "nft -f - <<'.'\n", "\n.\n"
	if len(args) == 2 && args[0] == "-ec" {
		if rules, ok := strings.CutPrefix(args[1], head); ok {
			if rules, ok = strings.CutSuffix(rules, tail); ok {
				cmd := exec.Command("nft", "-f", "-")
				cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(rules), os.Stdout, os.Stderr
				return cmd.Run()
			}
		}
	}
	return fmt.Errorf("this machine has no shell for %q", args)
}
