// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used. Memory is in bytes.
type Usage struct {
	CPU       time.Duration // user and system, since its start
	Resident  int64
	Peak      int64 // the most that was ever resident
	Anonymous int64 // resident memory of its own: not its program text
}

// Usage tells what the process has used so far.
func (p *Process) Usage() (u Usage, err error) {
	dir := "/proc/" + strconv.Itoa(p.Pid())
	var cpu unix.Timespec
	if err := unix.ClockGettime(cpuClock(p.Pid()), &cpu); err != nil {
		return u, fmt.Errorf("reading CPU time of %s: %w", p.name, err)
	}
	u.CPU = time.Duration(cpu.Nano())
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, fmt.Errorf("reading memory of %s: %w", p.name, err)
	}
	want := map[string]*int64{"VmRSS:": &u.Resident, "VmHWM:": &u.Peak, "RssAnon:": &u.Anonymous}
	for in := bufio.NewScanner(bytes.NewReader(status)); in.Scan(); {
		f := strings.Fields(in.Text())
		v := want[f[0]]
		if v == nil {
			continue
		}
		kB, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading memory of %s: %w", p.name, err)
		}
		*v = kB << 10
		delete(want, f[0])
	}
	if len(want) > 0 {
		return u, fmt.Errorf("reading memory of %s: not all of it is told", p.name)
	}
	return u, nil
}

// cpuClock is the clock of a process's CPU time, by the scheduler's account
// (clock_getcpuclockid(3)): what /proc tells is whole ticks of 10 ms.
func cpuClock(pid int) int32 {
	const sched = 2
	return int32(^pid<<3 | sched)
}

// Wakeups are how often threads of the process have waited for something and
// been woken, since its start (voluntary_ctxt_switches of proc_pid_status(5));
// of threads that are gone they are not known.
func (p *Process) Wakeups() (n int64, err error) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(p.Pid()) + "/task/*/status")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, after, ok := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		if !ok {
			return 0, fmt.Errorf("reading wake-ups of %s: not told", p.name)
		}
		line, _, _ := strings.Cut(after, "\n")
		v, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading wake-ups of %s: %w", p.name, err)
		}
		n += v
	}
	return n, err
}
