// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const getInfo = 64

// info is struct ipt_getinfo, the same for both families.
type info struct {
	name       [32]byte
	validHooks uint32
	hookEntry  [5]uint32
	underflow  [5]uint32
	entries    uint32
	size       uint32
}

// fingerprint is another one after somebody has changed a table: the ruleset's
// generation, or of each legacy table where its chains begin, how many rules
// it has and how long they are. It costs a few system calls. Only tables that
// are there are asked for: the kernel would make the others, and run modprobe
// for what it lacks.
func (f *family) fingerprint() (string, error) {
	if f.nft {
		gen, err := f.ruleset.Generation()
		return fmt.Sprint(gen), err
	}
	domain, level, names := unix.AF_INET, unix.SOL_IP, "ip_tables_names"
	if f.v6 {
		domain, level, names = unix.AF_INET6, unix.SOL_IPV6, "ip6_tables_names"
	}
	tables, err := os.ReadFile("/proc/thread-self/net/" + names)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var print strings.Builder
	for _, table := range strings.Fields(string(tables)) {
		var i info
		copy(i.name[:], table)
		size := uint32(unsafe.Sizeof(i))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
			uintptr(unsafe.Pointer(&i)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 && !errors.Is(errno, unix.ENOENT) { // which has gone meanwhile
			return "", errno
		}
		fmt.Fprintf(&print, "%s %v %v %d %d\n", table, i.hookEntry, i.underflow, i.entries, i.size)
	}
	return print.String(), nil
}
