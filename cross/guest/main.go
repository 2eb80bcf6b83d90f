// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command guest is the first process of an emulated machine that has nothing
// else than a kernel, nft and the programs of braid's packages. It builds the
// laboratory there, has the programs carry connections through it, prints what
// it found, and DONE with the number of failures at the end.
//
// It also is the commands that the laboratory needs and the machine lacks, by
// the name under which it is called.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// The namespace that a command enters is its first thread's.
func init() { runtime.LockOSThread() }

var commands = map[string]func(args []string) error{
	"ip":  ip,
	"nft": nft,
	"sh":  sh,
}

func main() {
	if os.Getpid() == 1 {
		boot()
	}
	name := filepath.Base(os.Args[0])
	command, ok := commands[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "guest is to be the first process, or one of its commands, not %s\n", name)
		os.Exit(1)
	}
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
