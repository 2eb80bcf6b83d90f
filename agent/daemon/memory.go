// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"braid/agent/proxy"
)

// bound bounds what the agent may take of the machine's memory and files.
func (d *Daemon) bound() {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		d.log.Warn("asking how many files may be open", "error", err)
		files.Cur = 1024
	}
	ram, err := totalMemory()
	if err != nil {
		d.log.Warn("asking how much memory there is", "error", err)
	}
	limits, memory := proxy.LimitsFor(ram, uint64(files.Cur))
	d.proxy.SetLimits(limits)
	debug.SetMemoryLimit(memory)
	// A router has little memory: 2 MB of garbage may come together before it
	// is collected instead of 4.
	debug.SetGCPercent(50)
	d.log.Info("limits", "connections", limits.Total, "of_a_host", limits.PerHost, "memory", memory)
}

// totalMemory is the machine's, in bytes.
func totalMemory() (uint64, error) {
	const file = "/proc/meminfo"
	all, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(all)) {
		var kB uint64
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			if _, err := fmt.Sscan(rest, &kB); err != nil {
				return 0, fmt.Errorf("reading %s: %w", file, err)
			}
			return kB << 10, nil
		}
	}
	return 0, fmt.Errorf("reading %s: no MemTotal", file)
}
