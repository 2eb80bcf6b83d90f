// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import "golang.org/x/sys/unix"

// SetSendBuffer bounds what the connection and each of its subflows may hold
// that the peer has not acknowledged, in bytes of memory: overhead counts. It
// ends the kernel's own tuning of the buffer for good. Where the right to
// exceed net.core.wmem_max is missing, that is the most.
func (c *Conn) SetSendBuffer(bytes int) error {
	return c.control(func(fd int) error {
		half := bytes / 2 // the kernel doubles what it is given
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, half) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, half)
	})
}

// SendBuffer reads the bound, in bytes of memory.
func (c *Conn) SendBuffer() (int, error) {
	var n int
	err := c.control(func(fd int) (err error) {
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		return err
	})
	return n, err
}
