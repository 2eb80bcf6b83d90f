// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command demo plays what braid is for: a house with a fixed and a cellular
// line, one download, and lines that die and return. The house, its lines and
// the far end are network namespaces of this machine; agent and converter are
// the programs that users run.
//
// One line a second says what happens; the last line of the output is a JSON
// object with the figures. The exit status is 0 if everything could be shown.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"braid/test/rig"
)

func main() {
	bin := flag.String("bin", "bin", "directory of braid and braid-mcp")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// Who closes our output ends us, but by an error of writing: not before all is cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	err := run(ctx, *bin)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string) error {
	// The world is not ended by ctx but by Close, which gives the programs the time to clean up.
	r, err := rig.New(context.WithoutCancel(ctx), rig.Options{Lab: house, Bin: bin, Idle: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &story{rig: r, out: newScreen(os.Stdout, cancel)}
	result, err := s.tell(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // what broke did so because of it
	}
	if err != nil {
		return errors.Join(err, r.Close())
	}
	err = errors.Join(s.missed(result), r.Close())
	if err := json.NewEncoder(os.Stdout).Encode(result.rounded()); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return err
}
