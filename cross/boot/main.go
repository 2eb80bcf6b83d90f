// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command boot proves braid on the processors of routers. Tests that need no
// kernel run under an emulated processor; then machines boot, emulated as a
// whole, on kernels of Debian's, with the programs out of the packages in
// dist/: see command guest for what happens inside. It is run in the root of
// the project.
//
// What is downloaded is kept in the user's cache directory, or where
// BRAID_CACHE says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"braid/cross"
)

func main() {
	dist := flag.String("dist", "dist", "`directory` of the packages")
	kernels := flag.Bool("kernels", false, "only see to it that the kernels are there which have to be built")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./cross/boot [-dist DIR] [-kernels] [TARGET]...")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	targets, err := emulated(flag.Args())
	switch {
	case err != nil:
	case *kernels:
		err = buildKernels(targets)
	default:
		err = run(ctx, *dist, targets)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// emulated are the targets of these names, or all that have an emulator.
func emulated(names []string) (targets []cross.Target, err error) {
	for _, name := range names {
		t, ok := cross.Find(name)
		if !ok || t.Emulator == nil {
			return nil, fmt.Errorf("there is no emulator for a target %q", name)
		}
		targets = append(targets, t)
	}
	if len(names) > 0 {
		return targets, nil
	}
	return slices.DeleteFunc(slices.Clone(cross.Targets), func(t cross.Target) bool { return t.Emulator == nil }), nil
}

func buildKernels(targets []cross.Target) error {
	for _, t := range targets {
		if t.Emulator.Kernel != "" {
			continue
		}
		name, err := findKernel(t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		fmt.Println(name)
	}
	return nil
}

// run tests all targets, one at a time: what they do is measured in time.
func run(ctx context.Context, dist string, targets []cross.Target) error {
	began := time.Now()
	var errs []error
	for _, t := range targets {
		if err := test(ctx, dist, t); err != nil {
			errs = append(errs, err)
		}
	}
	fmt.Printf("== %d of %d failed, in %v\n", len(errs), len(targets), time.Since(began).Round(time.Second))
	return errors.Join(errs...)
}

// test tests one target.
func test(ctx context.Context, dist string, t cross.Target) error {
	var errs []error
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"tests under an emulated processor", func() error { return testProcessor(ctx, t) }},
		{"machine", func() error { return bootMachine(ctx, dist, t) }},
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Printf("== %s: %s\n", t.Name, step.name)
		if err := step.run(); err != nil {
			err = fmt.Errorf("%s: %s: %w", t.Name, step.name, err)
			fmt.Println(err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cacheDir is where downloads of a kind are kept.
func cacheDir(elem ...string) (string, error) {
	dir := os.Getenv("BRAID_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a place for downloads, which BRAID_CACHE can name: %w", err)
		}
		dir = filepath.Join(user, "braid")
	}
	dir = filepath.Join(append([]string{dir}, elem...)...)
	return dir, os.MkdirAll(dir, 0o755)
}
