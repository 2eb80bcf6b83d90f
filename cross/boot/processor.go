// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"braid/cross"
)

// pure are the packages that do without what an emulator of a processor
// alone cannot do: network namespaces, netlink and most socket options.
var pure = []string{
	"./agent/config", "./agent/plan", "./agent/ubus", "./agent/uci",
	"./mcp/config", "./transport/convert",
}

// timed are those of their tests that are about time, which passes otherwise
// under an emulator.
const timed = "^(TestLoadLargest|TestLoadWhileReplaced)$"

// testProcessor runs their tests.
func testProcessor(ctx context.Context, t cross.Target) error {
	if t.Emulator.User == "" {
		fmt.Println("none")
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-skip", timed, "-exec", "qemu-" + t.Emulator.User + "-static"}, pure...)...)
	cmd.Env = t.Env()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
