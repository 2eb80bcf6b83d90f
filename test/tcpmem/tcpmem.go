// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package tcpmem keeps TCP of the machine from running short of memory that
// nobody has.
//
// An MPTCP socket that is closed without a reset goes on taking what its far end
// sends (kernel 6.18), and what that takes of TCP's memory is not all given back:
// the count grows by 2 GiB at a time, which nobody has. Transfers at gigabits
// a second that end so use it up, and from then on every TCP of the machine, in
// all its network namespaces, crawls.
package tcpmem

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	patience = 5 * time.Second
	interval = 200 * time.Millisecond
)

// kernel is where the kernel says what TCP has taken, and what it may take: low,
// pressure, high, in pages.
var kernel = files{"/proc/net/sockstat", "/proc/sys/net/ipv4/tcp_mem"}

type files struct{ taken, limits string }

var pages = regexp.MustCompile(`(?m)^TCP: .* mem (\d+)$`)

// Room waits until TCP may take half of what the kernel lets it take when it boots,
// before it is short. What is not free after 5 seconds is lost: the limits are
// raised to where all of that may be taken beside it. It says by how many pages.
func Room(ctx context.Context) (raised int64, err error) {
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return 0, fmt.Errorf("reading how much memory there is: %w", err)
	}
	const part = 16 // of the machine's, see tcp_init_mem
	all := uint64(machine.Totalram) * uint64(machine.Unit) / uint64(os.Getpagesize())
	return kernel.room(ctx, int64(all/part))
}

func (f files) room(ctx context.Context, usual int64) (raised int64, err error) {
	for deadline := time.Now().Add(patience); ; {
		taken, limits, err := f.read()
		if err != nil || limits[1]-taken >= usual/2 {
			return 0, err
		}
		if time.Now().After(deadline) {
			raised = taken + usual - limits[1]
			return raised, f.raise(limits, raised)
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (f files) read() (taken int64, limits [3]int64, err error) {
	stat, err := os.ReadFile(f.taken)
	if err != nil {
		return 0, limits, fmt.Errorf("reading what TCP has taken: %w", err)
	}
	m := pages.FindSubmatch(stat)
	if m == nil {
		return 0, limits, fmt.Errorf("reading what TCP has taken: %q", stat)
	}
	if taken, err = strconv.ParseInt(string(m[1]), 10, 64); err != nil {
		return 0, limits, fmt.Errorf("reading what TCP has taken: %w", err)
	}
	text, err := os.ReadFile(f.limits)
	if err != nil {
		return 0, limits, fmt.Errorf("reading what TCP may take: %w", err)
	}
	if _, err := fmt.Sscan(string(text), &limits[0], &limits[1], &limits[2]); err != nil {
		return 0, limits, fmt.Errorf("reading what TCP may take: %q: %w", strings.TrimSpace(string(text)), err)
	}
	return taken, limits, nil
}

func (f files) raise(limits [3]int64, by int64) error {
	text := fmt.Sprintln(limits[0]+by, limits[1]+by, limits[2]+by)
	if err := os.WriteFile(f.limits, []byte(text), 0o644); err != nil {
		return fmt.Errorf("raising what TCP may take: %w", err)
	}
	return nil
}
