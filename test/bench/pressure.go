// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An MPTCP socket that is closed without a reset goes on taking what its far end
// sends (kernel 6.18), and what that takes of TCP's memory is not all given back:
// some runs of the peer's at gigabits a second use it up, and then no TCP of this
// machine gets on.

var tcpPages = regexp.MustCompile(`(?m)^TCP: .* mem (\d+)$`)

// roomForTCP waits until TCP is not short of memory. Without it the next figure
// would be of nothing else, and it refuses to go on.
func roomForTCP(ctx context.Context) error {
	const patience, interval = 30 * time.Second, 200 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		used, pressure, err := tcpMemory()
		if err != nil || used < pressure {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("TCP has taken %d pages of memory and is short of it from %d on (net.ipv4.tcp_mem)", used, pressure)
		}
		if err := pause(ctx, interval); err != nil {
			return err
		}
	}
}

// tcpMemory is how many pages TCP has taken, and from how many on it is short.
func tcpMemory() (used, pressure int64, err error) {
	sockstat, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, 0, fmt.Errorf("reading TCP's memory: %w", err)
	}
	limits, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		return 0, 0, fmt.Errorf("reading TCP's memory: %w", err)
	}
	m, f := tcpPages.FindSubmatch(sockstat), strings.Fields(string(limits))
	if m == nil || len(f) != 3 {
		return 0, 0, fmt.Errorf("reading TCP's memory: %q, %q", sockstat, limits)
	}
	if used, err = strconv.ParseInt(string(m[1]), 10, 64); err == nil {
		pressure, err = strconv.ParseInt(f[1], 10, 64)
	}
	return used, pressure, err
}
