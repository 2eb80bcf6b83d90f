// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// descriptor is a connection's. It belongs to its stream, until Detach.
type descriptor struct {
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
	if c.fd < 0 {
		return -1, net.ErrClosed
	}
	if fd, err = unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return -1, err
	}
	c.stream.Close()
	c.stream = nil
	c.fd, c.reset = fd, reset
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset != nil {
		return nil
	}
	c.fd = -1
	return c.stream.Close()
}

// Reset closes the connection so that the peer sees a reset: RST on TCP,
// MP_FASTCLOSE (RFC 8684 section 3.5) on MPTCP.
func (c *Conn) Reset() {
	c.mu.Lock()
	reset := c.reset
	if reset == nil && c.fd >= 0 {
		abort(c.fd)
		c.fd = -1
		c.stream.Close()
	}
	c.mu.Unlock()
	if reset != nil {
		reset()
	}
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
	if c.fd < 0 {
		return net.ErrClosed
	}
	return f(c.fd)
}
