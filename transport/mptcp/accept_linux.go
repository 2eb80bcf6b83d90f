// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// Listener takes connections by itself: package net would hand each to the runtime's
// poller, ask for its addresses and set options, and many have said all that they
// have to say before they are relayed, and never need to be waited for.
type Listener struct {
	addr  net.Addr
	file  *os.File
	rc    syscall.RawConn // of file
	plain bool            // TCP alone

	mu    sync.Mutex            // held by who accepts
	take  func(fd uintptr) bool // takes the next one, if there is any
	taken accepted              // by take
}

// accepted is what accept4(2) says.
type accepted struct {
	fd   int
	from netip.AddrPort
	err  error
}

// NewListener makes one of a listener of package net's, which is closed. What is
// accepted has its options.
func NewListener(nl *net.TCPListener) (*Listener, error) {
	defer nl.Close()
	rc, err := nl.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	fd, err := duplicate(rc)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	l := &Listener{addr: nl.Addr(), file: os.NewFile(uintptr(fd), "listener"), plain: err == nil && proto == unix.IPPROTO_TCP}
	l.take = l.accept
	if l.rc, err = l.file.SyscallConn(); err == nil {
		err = l.file.SetReadDeadline(time.Time{}) // which says whether it can be waited for
	}
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

func duplicate(rc syscall.RawConn) (copied int, err error) {
	failed := rc.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return copied, cmp.Or(failed, err)
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.addr }

// SyscallConn implements syscall.Conn.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.rc, nil }

// File is a copy of the listener, for another process.
func (l *Listener) File() (*os.File, error) {
	fd, err := duplicate(l.rc)
	if err != nil {
		return nil, fmt.Errorf("copying a listener: %w", err)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// Close ends Accept; os.ErrClosed if it has been called before. A copy of the
// listener that somebody else has goes on.
func (l *Listener) Close() error { return l.file.Close() }

// Accept takes the next connection; net.ErrClosed after Close.
func (l *Listener) Accept() (*Conn, error) {
	l.mu.Lock()
	err := l.rc.Read(l.take)
	taken := l.taken // by that, and not before
	l.mu.Unlock()
	switch {
	case err != nil: // there is no other reason
		return nil, net.ErrClosed
	case taken.err != nil:
		return nil, os.NewSyscallError("accept4", taken.err)
	}
	c := &Conn{Remote: taken.from, MPTCP: !l.plain && speaksMPTCP(taken.fd)}
	c.fd, c.Fallen = taken.fd, !l.plain && !c.MPTCP && isMPTCP(taken.fd)
	if c.Local, err = localAddr(c.fd); err != nil {
		unix.Close(c.fd)
		return nil, fmt.Errorf("accepting: %w", err)
	}
	if !c.MPTCP && !l.plain {
		_ = call.Set(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // which MPTCP's listeners have from 5.17
	}
	return c, nil
}

// accept is accept4(2), which says who it is. It says whether there is an answer.
func (l *Listener) accept(listener uintptr) bool {
	for {
		var b [sockaddrSize / 2]byte
		size := uint32(len(b))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, listener, uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			l.taken = accepted{fd: int(fd), from: parseSockaddr(b[:])}
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR, unix.ECONNABORTED: // one that has been reset before it was taken is none
		default:
			l.taken = accepted{err: errno}
			return true
		}
	}
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
