// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command package makes braid's packages and a feed of them, into dist/. It is
// run in the root of the project.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"braid/cross"
)

func main() {
	dist := flag.String("o", "dist", "`directory` to put packages into")
	key := flag.String("key", os.Getenv("BRAID_SIGN_KEY"), "secret key of usign to sign the feed with")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./cross/package [-o DIR] [-key FILE] [TARGET]...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := make(*dist, *key, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// make goes on after a package that is too large: all sizes are to be seen.
func make(dist, keyFile string, targets []string) error {
	for _, t := range targets {
		if _, ok := cross.Find(t); !ok {
			return fmt.Errorf("there is no target %q", t)
		}
	}
	var key *cross.SigningKey
	if keyFile != "" {
		var err error
		if key, err = cross.ReadKey(keyFile); err != nil {
			return err
		}
	}
	version, epoch, err := cross.Version(".")
	if err != nil {
		return err
	}
	if err := clean(dist); err != nil {
		return err
	}
	var errs []error
	for _, b := range cross.Builds(version, epoch, targets...) {
		file, err := b.Make(".")
		if over := (*cross.BudgetError)(nil); err != nil && !errors.As(err, &over) {
			return err
		}
		errs = append(errs, err)
		if err := os.WriteFile(filepath.Join(dist, b.File()), file, 0o644); err != nil {
			return err
		}
		fmt.Printf("%9d  %s\n", len(file), b.File())
	}
	return errors.Join(append(errs, cross.Index(dist, key))...)
}

// clean takes away packages of other versions: they do not belong to the feed.
func clean(dist string) error {
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"*.ipk", "*.deb"} {
		old, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil {
			return err
		}
		for _, name := range old {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}
