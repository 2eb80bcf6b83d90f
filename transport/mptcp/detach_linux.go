// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// detached is what a Conn has when it is no longer package net's.
type detached struct {
	mu    sync.RWMutex // held to read while the descriptor is used
	fd    int          // -1: closed
	reset func()       // nil: not detached
}

// Detach takes the connection away from package net and the runtime's poller,
// which would wake for all that arrives. It returns the descriptor, which does
// not block and is to be closed by CloseDetached alone. From then on Reset calls
// reset, Close does nothing, and nothing is read or written by other methods.
func (c *Conn) Detach(reset func()) (fd int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rc, err := c.stream.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	if err := rc.Control(func(old uintptr) {
		fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, failed
	}
	c.stream.Close()
	c.stream = nil
	c.fd, c.detached.reset = fd, reset
	return fd, nil
}

// CloseDetached closes the descriptor that Detach has returned. With reset the
// peer sees a reset.
func (c *Conn) CloseDetached(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reset {
		abort(c.fd)
	}
	unix.Close(c.fd)
	c.fd = -1
}

// Close closes the connection, unless somebody has it detached.
func (c *Conn) Close() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.reset != nil {
		return nil
	}
	return c.stream.Close()
}

// Reset closes the connection so that the peer sees a reset: RST on TCP,
// MP_FASTCLOSE (RFC 8684 section 3.5) on MPTCP.
func (c *Conn) Reset() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.reset != nil {
		c.reset()
		return
	}
	if rc, err := c.stream.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { abort(int(fd)) })
	}
	c.stream.Close()
}

// abort has the close of a descriptor be a reset.
func abort(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// CloseWrite tells the peer that nothing more will come.
func (c *Conn) CloseWrite() error {
	return c.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// LocalAddr and RemoteAddr are Local and Remote.
func (c *Conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.Local) }
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Remote) }

// control runs f on the connection's descriptor.
func (c *Conn) control(f func(fd int) error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.reset != nil {
		if c.fd < 0 {
			return net.ErrClosed
		}
		return f(c.fd)
	}
	rc, err := c.stream.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := rc.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
