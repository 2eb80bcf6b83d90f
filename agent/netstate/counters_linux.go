// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Traffic is what a device has received and sent: bytes, and packets.
type Traffic struct{ RX, TX, RXPackets uint64 }

// Counters reads the traffic of all devices, by name; nil where
// /proc/net/dev cannot be read.
func Counters() map[string]Traffic {
	f, err := os.Open("/proc/self/net/dev")
	if err != nil {
		return nil
	}
	defer f.Close()
	all := make(map[string]Traffic)
	for s := bufio.NewScanner(f); s.Scan(); {
		// name: bytes packets errs drop fifo frame compressed multicast bytes ...
		name, rest, ok := strings.Cut(s.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 9 {
			continue
		}
		rx, errRX := strconv.ParseUint(fields[0], 10, 64)
		tx, errTX := strconv.ParseUint(fields[8], 10, 64)
		packets, errPackets := strconv.ParseUint(fields[1], 10, 64)
		if errRX == nil && errTX == nil && errPackets == nil {
			all[strings.TrimSpace(name)] = Traffic{rx, tx, packets}
		}
	}
	return all
}
