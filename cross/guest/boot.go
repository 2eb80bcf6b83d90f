// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// boot makes the machine usable, runs the checks and switches it off.
func boot() {
	runtime.UnlockOSThread()
	fails := 1
	if err := errors.Join(mount(), loadModules()); err != nil {
		fmt.Println("FAIL boot:", err)
	} else {
		fails = scenario()
	}
	uptime, _ := os.ReadFile("/proc/uptime")
	fmt.Printf("uptime and idle time %s", uptime)
	fmt.Printf("DONE fails=%d\n", fails)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("switching off:", err)
	}
	select {}
}

func mount() error {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	return os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
}

// loadModules loads what lies in /modules, whose names are in order.
func loadModules() error {
	names, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		image, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(image, ""); err != nil {
			return fmt.Errorf("loading %s: %w", name, err)
		}
	}
	return nil
}
