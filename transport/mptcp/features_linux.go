// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// FeatureSet is what this kernel, as it is set up, can do for MPTCP.
type FeatureSet struct {
	Release     string // as uname -r says
	MPTCP       bool   // sockets can be opened: kernel 5.6, net.mptcp.enabled
	Subflows    bool   // their addresses and TCP_INFO can be read: kernel 5.16
	FastOpen    bool   // data in the SYN of a dialled connection: kernel 3.6; with MPTCP 5.19
	FastOpenAck bool   // data in the SYN of an accepted one: kernel 3.7; with MPTCP 6.2
}

// Features probes the kernel.
func Features() FeatureSet {
	var f FeatureSet
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Release = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	const clientBit, serverBit = 1, 2
	bits := sysctlBits("net/ipv4/tcp_fastopen")
	f.FastOpen = bits&clientBit != 0
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protoMPTCP)
	if err != nil {
		return f
	}
	defer unix.Close(fd)
	f.MPTCP = sysctlBits("net/mptcp/enabled") != 0
	_, _, err = perSubflow(fd, optAddresses, sockaddrSize, make([]byte, subflowData+maxSubflows*sockaddrSize))
	f.Subflows = err == nil
	f.FastOpenAck = bits&serverBit != 0 && call.Set(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 1) == nil
	return f
}

func sysctlBits(path string) uint64 {
	b, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return 0
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
	if err != nil {
		return 0
	}
	return v
}
