// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listener is made by Listen or Adopt. It takes connections by itself: package net
// would hand each to the runtime's poller, ask for its addresses and set options,
// and many have said all that they have to say before they are relayed, and never
// need to be waited for.
type Listener struct {
	*net.TCPListener
	file *os.File // the same, once more, by which it is waited for connections
	rc   syscall.RawConn
}

func newListener(l *net.TCPListener) (*Listener, error) {
	f, err := l.File()
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listening: %w", err)
	}
	rc, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // which says whether it can be waited for
	}
	if err != nil {
		f.Close()
		l.Close()
		return nil, fmt.Errorf("listening: %w", err)
	}
	return &Listener{l, f, rc}, nil
}

// Close ends Accept. A copy of the listener that somebody else has goes on.
func (l *Listener) Close() error { return errors.Join(l.TCPListener.Close(), l.file.Close()) }

// Accept takes the next connection; net.ErrClosed after Close.
func (l *Listener) Accept() (*Conn, error) {
	var fd int
	var from netip.AddrPort
	var failed error
	err := l.rc.Read(func(listener uintptr) bool {
		for {
			fd, from, failed = accept(int(listener))
			// One that has been reset before it was taken is none.
			if !errors.Is(failed, unix.EINTR) && !errors.Is(failed, unix.ECONNABORTED) {
				return !errors.Is(failed, unix.EAGAIN)
			}
		}
	})
	switch {
	case err != nil: // there is no other reason
		return nil, net.ErrClosed
	case failed != nil:
		return nil, os.NewSyscallError("accept4", failed)
	}
	c := &Conn{Remote: from, MPTCP: speaksMPTCP(fd)}
	c.fd = fd
	if c.Local, err = localAddr(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("accepting: %w", err)
	}
	if !c.MPTCP {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // which MPTCP's listeners have from 5.17
	}
	return c, nil
}

// accept is accept4(2), which says who it is.
func accept(listener int) (fd int, from netip.AddrPort, err error) {
	var b [sockaddrSize / 2]byte
	size := uint32(len(b))
	n, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, from, errno
	}
	return int(n), parseSockaddr(b[:]), nil
}

// localAddr is a socket's own address.
func localAddr(fd int) (netip.AddrPort, error) {
	var b [sockaddrSize / 2]byte
	size := uint32(len(b))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", errno)
	}
	return parseSockaddr(b[:]), nil
}
