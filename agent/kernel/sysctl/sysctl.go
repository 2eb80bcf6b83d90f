// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package sysctl makes kernel settings what they are to be and puts back what
// they were, also after the process that set them was killed.
package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"braid/agent/plan"
)

const root = "/proc/sys"

// Apply makes the given sysctls what they are to be and puts all others back
// that were set through this Keeper or the one before it; Apply(nil) is
// teardown. Errors are joined, and one that fails does not stop the rest. They
// wrap os.ErrNotExist for a sysctl that this kernel does not have and are a
// *ChangedError, once a change, for one that something else has changed; that
// one is ours again.
//
// Below /proc/sys/net it is the network namespace of the caller that counts.
func (k *Keeper) Apply(want []plan.Sysctl) error {
	settings := make([]Setting, len(want))
	for i, s := range want {
		settings[i] = Setting{Key: s.Path, Value: squeeze(s.Value)}
	}
	return k.Keep(Kind{Name: "sysctl", Read: read, Write: write}, settings)
}

func read(path string) (string, error) {
	name, err := locate(path)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("reading sysctl: %w", err)
	}
	return squeeze(string(b)), nil
}

func write(path, value string) error {
	name, err := locate(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("setting sysctl to %q: %w", value, err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("setting sysctl to %q: %w", value, err)
	}
	return nil
}

func locate(path string) (string, error) {
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("sysctl %q is not a path below %s", path, root)
	}
	return filepath.Join(root, path), nil
}

// squeeze makes values comparable: the kernel separates the numbers of a
// setting by tabs, whatever it was given.
func squeeze(value string) string { return strings.Join(strings.Fields(value), " ") }
