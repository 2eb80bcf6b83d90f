// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package call makes system calls for sockets that do not block, of which none
// waits for a peer. Go's runtime is not told of them: each that it is told of, after a rest,
// wakes its monitor, which then looks every 20 microseconds for what has become of
// it. At the rate of a line, where each call is one after a rest, that was most of
// what a relay did, and it is an eighth of what short connections cost.
package call

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is socket(2).
func Socket(domain, kind, protocol int) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(domain), uintptr(kind), uintptr(protocol))
	return result(n, errno)
}

// Read is read(2).
func Read(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// Write is write(2).
func Write(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// Send is sendto(2).
func Send(fd int, b []byte, flags int, to []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			uintptr(flags), uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)))
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// Receive is recvfrom(2) of what has come already.
func Receive(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

// Splice is splice(2) of at most so many bytes.
func Splice(from, to, most int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// Events is epoll_wait(2) for what has come already.
func Events(epoll int, events []unix.EpollEvent) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// Listen is epoll_ctl(2).
func Listen(epoll, op, fd int, event unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	return failure(errno)
}

// Bytes asks a socket for a number of bytes: unix.SIOCINQ, that have come and nobody
// has read; unix.SIOCOUTQ, that are not acknowledged.
func Bytes(fd, which int) (int, error) {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), uintptr(which), uintptr(unsafe.Pointer(&n)))
	return result(uintptr(n), errno)
}

// Set is setsockopt(2) of a number.
func Set(fd, level, option, value int) error {
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return failure(errno)
}

// SetString is setsockopt(2) of a string.
func SetString(fd, level, option int, value string) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.StringData(value))), uintptr(len(value)), 0)
	return failure(errno)
}

// Get is getsockopt(2). It fills b, and says how much of it the kernel wrote.
func Get(fd, level, option int, b []byte) (int, error) {
	size := uint32(len(b))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&size)), 0)
	return result(uintptr(size), errno)
}

// Bind is bind(2) to a struct sockaddr.
func Bind(fd int, to []byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)))
	return failure(errno)
}

// Connect is connect(2) to a struct sockaddr.
func Connect(fd int, to []byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)))
	return failure(errno)
}

// Shutdown is shutdown(2).
func Shutdown(fd, how int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	return failure(errno)
}

// Duplicate is fcntl(2) with F_DUPFD_CLOEXEC.
func Duplicate(fd int) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return result(n, errno)
}

// Close is close(2).
func Close(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return failure(errno)
}

// result is what a system call returns; -1 with an error.
func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func failure(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
