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
)

// userHZ is the unit of times in /proc, the same on all of Go's Linux ports.
const userHZ = 100

// Usage is what a process has used. Memory is in bytes.
type Usage struct {
	CPU       time.Duration // user and system, since its start, to 10 ms
	Resident  int64
	Peak      int64 // the most that was ever resident
	Anonymous int64 // resident memory of its own: not its program text
}

// Usage tells what the process has used so far.
func (p *Process) Usage() (u Usage, err error) {
	dir := "/proc/" + strconv.Itoa(p.Pid())
	stat, err := os.ReadFile(dir + "/stat")
	if err == nil {
		u.CPU, err = parseCPU(stat)
	}
	if err != nil {
		return u, fmt.Errorf("reading CPU time of %s: %w", p.name, err)
	}
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

// parseCPU adds utime and stime, the 14th and 15th field of proc_pid_stat(5).
// The second one is in parentheses and may hold blanks.
func parseCPU(stat []byte) (time.Duration, error) {
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%d fields are too few", len(f)+2)
	}
	var ticks int64
	for _, s := range f[11:13] {
		t, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += t
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
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
