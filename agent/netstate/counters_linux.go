// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"bufio"
	"os"
	"slices"
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

// Retransmissions counts the segments that TCP has sent again, over whatever
// device, those of MPTCP's subflows among them (RFC 4022, tcpRetransSegs); 0 where
// /proc/net/snmp cannot be read.
func Retransmissions() uint64 {
	f, err := os.Open("/proc/self/net/snmp")
	if err != nil {
		return 0
	}
	defer f.Close()
	column := -1
	for s := bufio.NewScanner(f); s.Scan(); {
		// A line of names comes before that of values.
		rest, ok := strings.CutPrefix(s.Text(), "Tcp:")
		fields := strings.Fields(rest)
		switch {
		case !ok:
		case column < 0:
			column = slices.Index(fields, "RetransSegs")
		case column < len(fields):
			n, _ := strconv.ParseUint(fields[column], 10, 64)
			return n
		}
	}
	return 0
}
