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

	"golang.org/x/sys/unix"

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
	b, err := readFile(name)
	if err != nil {
		return "", fmt.Errorf("reading sysctl: %w", &os.PathError{Op: "read", Path: name, Err: err})
	}
	return squeeze(string(b)), nil
}

// longest is more than any sysctl of a network has to say, in bytes.
const longest = 4 << 10

// readFile does for the few bytes of a sysctl without what os.ReadFile does for
// files that are long or may not be ready: it is called many times a second.
func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var b [longest]byte
	n, err := unix.Read(fd, b[:])
	return b[:max(n, 0)], err
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
