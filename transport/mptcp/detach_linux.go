// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// descriptor is a connection's.
type descriptor struct {
	mu              sync.RWMutex // held to read while fd is used
	fd              int          // -1: closed
	stream          *os.File     // has it in the runtime's poller; nil: there was nothing to wait for yet
	readBy, writeBy time.Time    // its deadlines
	holder          Holder       // nil: not detached
}

// Holder has a connection that is detached.
type Holder interface {
	// Abort has it reset.
	Abort()
}

// wait hands the connection to the runtime's poller, unless it has it.
func (c *Conn) wait() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 || c.holder != nil {
		return nil, net.ErrClosed
	}
	if c.stream == nil {
		c.stream = os.NewFile(uintptr(c.fd), "tcp")
		c.stream.SetReadDeadline(c.readBy)
		c.stream.SetWriteDeadline(c.writeBy)
	}
	return c.stream, nil
}

// waits says whether the runtime's poller has the connection, or somebody else.
func (c *Conn) waits() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stream != nil || c.holder != nil
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if !c.waits() {
		if n, err := c.ReadNow(b); err != unix.EAGAIN {
			return n, err
		}
	}
	s, err := c.wait()
	if err != nil {
		return 0, err
	}
	return s.Read(b)
}

// Write implements net.Conn. What can be written at once is, also past the deadline.
func (c *Conn) Write(b []byte) (n int, err error) {
	n, err = c.WriteNow(b)
	if n == len(b) || err != nil && err != unix.EAGAIN {
		return n, err
	}
	s, err := c.wait()
	if err != nil {
		return n, err
	}
	more, err := s.Write(b[n:])
	return n + more, err
}

// WriteNow is Write without waiting, of what there is room for: the error is EAGAIN
// where there is none.
func (c *Conn) WriteNow(b []byte) (n int, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 || c.holder != nil {
		return 0, net.ErrClosed
	}
	n, err = call.Write(c.fd, b)
	return max(n, 0), err
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readBy = t; c.stream != nil {
		return c.stream.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeBy = t; c.stream != nil {
		return c.stream.SetWriteDeadline(t)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Detach takes the connection away from the runtime's poller, which would wake for all that arrives. It returns the descriptor, which does
// not block and is to be closed by CloseDetached alone. From then on Reset aborts by
// the holder, Close does nothing, and nothing is read or written by other methods.
func (c *Conn) Detach(holder Holder) (fd int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return -1, net.ErrClosed
	}
	if c.stream != nil { // which gives it back to nobody
		if fd, err = call.Duplicate(c.fd); err != nil {
			return -1, err
		}
		c.stream.Close()
		c.fd, c.stream = fd, nil
	}
	c.holder = holder
	return c.fd, nil
}

// CloseDetached closes the descriptor that Detach has returned. With reset the
// peer sees a reset.
func (c *Conn) CloseDetached(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reset {
		abort(c.fd)
	}
	call.Close(c.fd)
	c.fd = -1
}

// Close closes the connection, unless somebody has it detached.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder != nil {
		return nil
	}
	return c.closeLocked()
}

func (c *Conn) closeLocked() error {
	fd := c.fd
	switch c.fd = -1; {
	case c.stream != nil:
		return c.stream.Close()
	case fd < 0:
		return net.ErrClosed
	}
	return call.Close(fd)
}

// Reset closes the connection so that the peer sees a reset: RST on TCP,
// MP_FASTCLOSE (RFC 8684 section 3.5) on MPTCP.
func (c *Conn) Reset() {
	c.mu.Lock()
	holder := c.holder
	if holder == nil && c.fd >= 0 {
		abort(c.fd)
		_ = c.closeLocked()
	}
	c.mu.Unlock()
	if holder != nil {
		holder.Abort()
	}
}

// abort has the close of a descriptor be a reset.
func abort(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// CloseWrite tells the peer that nothing more will come.
func (c *Conn) CloseWrite() error {
	return c.control(func(fd int) error { return call.Shutdown(fd, unix.SHUT_WR) })
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
