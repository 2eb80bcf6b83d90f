// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Syscalls counts the system calls of a process, unlike times a figure that a
// busy machine does not change.
type Syscalls struct{ fds []int }

// CountSyscalls counts those of the process's threads, also of future ones, from
// now on. It needs the tracepoints of the kernel at /sys/kernel/tracing.
func (p *Process) CountSyscalls() (_ *Syscalls, err error) {
	const tracepoint = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id"
	b, err := os.ReadFile(tracepoint)
	if err != nil {
		return nil, fmt.Errorf("counting system calls of %s: %w", p.name, err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("counting system calls of %s: %w", p.name, err)
	}
	s := new(Syscalls)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(p.Pid()) + "/task/*")
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Bits: unix.PerfBitInherit}
	attr.Size = uint32(unsafe.Sizeof(attr))
	for _, t := range threads {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return nil, err
		}
		fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("counting system calls of %s: %w", p.name, err)
		}
		s.fds = append(s.fds, fd)
	}
	return s, nil
}

// Count is how many there have been.
func (s *Syscalls) Count() (n uint64, err error) {
	for _, fd := range s.fds {
		var b [8]byte
		if _, err := unix.Read(fd, b[:]); err != nil {
			return 0, fmt.Errorf("reading a count of system calls: %w", err)
		}
		n += binary.NativeEndian.Uint64(b[:])
	}
	return n, nil
}

// Close ends the count.
func (s *Syscalls) Close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
}
