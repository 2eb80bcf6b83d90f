// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// mapped are the keepalives of KeepMapped. Carriers' NATs forget a connection
// that has been silent for 300 s (RFC 5382 REQ-5 asks them for 2 h 4 min). Nine
// minutes without an answer end a connection: a line may be away for five.
var mapped = net.KeepAliveConfig{Enable: true, Idle: 270 * time.Second, Interval: time.Minute, Count: 9}

// KeepMapped says whether NATs on the way are kept from forgetting the
// connection while it is idle. MPTCP sends keepalives over every subflow, those
// on standby too (kernel 6.5; before, it leaves their times to the kernel).
//
// Each socket that becomes a Conn is told one or the other: package net has
// whatever it makes of a file send keepalives every 15 s.
func (c *Conn) KeepMapped(on bool) error {
	err := c.control(func(fd int) error {
		if !on {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(mapped.Idle.Seconds())),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(mapped.Interval.Seconds())),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, mapped.Count))
	})
	if err != nil && !(c.MPTCP && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT))) {
		return fmt.Errorf("changing keepalives: %w", err)
	}
	return nil
}

// SetUserTimeout says for how long what is sent over a plain TCP connection may
// stay without an acknowledgement (RFC 5482); 0 is the kernel's own limit, 15
// retransmissions, which take a quarter of an hour at least.
func (c *Conn) SetUserTimeout(d time.Duration) error {
	err := c.control(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
	if err != nil {
		return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
