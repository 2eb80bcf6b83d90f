// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that are made for bytes, none of which waits. The runtime is
// not told of them: each that it is told of, after a rest, wakes its monitor,
// which then looks every 20 microseconds for what has become of it. At the rate
// of a line, where each call is one after a rest, that was most of what a relay
// did.

func readNow(fd int, b []byte) (int, error) {
	return call(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

func writeNow(fd int, b []byte) (int, error) {
	return call(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

func spliceNow(from, to, most int) (int, error) {
	return call(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
}

func eventsNow(epoll int, events []unix.EpollEvent) (int, error) {
	return call(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
}

// setNow sets an option of the level SOL_SOCKET. Where it cannot be had, the socket
// stays as it is.
func setNow(fd, option int, value int32) {
	_, _ = call(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// count asks a socket for a number of bytes: SIOCINQ, that have come and nobody has
// read; SIOCOUTQ, that are not acknowledged.
func count(fd int, what uintptr) (int, error) {
	var n int32
	_, err := call(unix.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(&n)), 0, 0, 0)
	return int(n), err
}

//go:uintptrescapes
func call(trap, a, b, c, d, e, f uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(trap, a, b, c, d, e, f)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}
