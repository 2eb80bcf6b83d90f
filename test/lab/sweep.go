// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	namePrefix = "braid-"
	netnsDir   = "/run/netns"
)

// sweep removes the namespaces of processes that are gone, with all that runs in them.
func sweep() error {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for old namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namePrefix)
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if !ours || err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		err = removeOld(e.Name())
		// Another process may sweep at the same time; a namespace just unmounted is invalid.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing old namespaces: %w", err)
	}
	return nil
}

func removeOld(name string) error {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	return errors.Join(killInside([]int{int(ns)}, time.Second), netns.DeleteNamed(name))
}

// killInside kills all processes, but not this one, whose network namespace is among those of
// the handles, and waits until they are gone.
func killInside(handles []int, patience time.Duration) error {
	type identity struct{ dev, ino uint64 }
	var ours []identity
	for _, h := range handles {
		var st unix.Stat_t
		if err := unix.Fstat(h, &st); err != nil {
			return fmt.Errorf("looking at namespace: %w", err)
		}
		ours = append(ours, identity{uint64(st.Dev), st.Ino})
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		paths, err := filepath.Glob("/proc/[0-9]*/ns/net")
		if err != nil {
			return err
		}
		found := 0
		for _, path := range paths {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			var st unix.Stat_t
			// A process that has ended meanwhile, or is a zombie, has no namespace.
			if pid == os.Getpid() || unix.Stat(path, &st) != nil || !slices.Contains(ours, identity{uint64(st.Dev), st.Ino}) {
				continue
			}
			found++
			unix.Kill(pid, unix.SIGKILL)
		}
		if found == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d processes in the namespaces do not end", found)
		}
	}
}
