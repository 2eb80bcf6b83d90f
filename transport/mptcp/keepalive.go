// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// mapped are the keepalives of KeepMapped. Carriers' NATs forget a connection
// that has been silent for 300 s (RFC 5382 REQ-5 asks them for 2 h 4 min). Nine
// minutes without an answer end a connection: a line may be away for five.
var mapped = net.KeepAliveConfig{Enable: true, Idle: 270 * time.Second, Interval: time.Minute, Count: 9}

// KeepMapped says whether NATs on the way are kept from forgetting the
// connection while it is idle. MPTCP sends keepalives over every subflow, those
// on standby too (kernel 6.5; before, it leaves their times to the kernel).
//
// It is not, until it is said.
func (c *Conn) KeepMapped(on bool) error {
	err := c.control(func(fd int) error {
		if !on {
			return call.Set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		}
		return errors.Join(
			call.Set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(mapped.Idle.Seconds())),
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(mapped.Interval.Seconds())),
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, mapped.Count))
	})
	if err != nil && !(c.MPTCP && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT))) {
		return fmt.Errorf("changing keepalives: %w", err)
	}
	return nil
}

// Ask has the kernel ask the peer within a second whether it is there, and each
// minute from then on, once the connection is idle. The answer tells anew how far the
// peer has read and that it has sent its last byte (DATA_FIN, RFC 8684 section 3.3.3): if a
// subflow that is gone has lost that, the peer's kernel (6.18) says so again only after up
// to 102 s.
func (c *Conn) Ask() error {
	err := c.control(func(fd int) error {
		return errors.Join(
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(mapped.Interval.Seconds())),
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, mapped.Count),
			call.Set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1),
			call.Set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
	})
	if err != nil && !(c.MPTCP && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT))) {
		return fmt.Errorf("asking the peer: %w", err)
	}
	return nil
}

// SetUserTimeout says for how long what is sent over a plain TCP connection may
// stay without an acknowledgement (RFC 5482); 0 is the kernel's own limit, 15
// retransmissions, which take a quarter of an hour at least.
func (c *Conn) SetUserTimeout(d time.Duration) error {
	err := c.control(func(fd int) error {
		return call.Set(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
	if err != nil {
		return fmt.Errorf("setting TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

// tcpRTOMaxMS is TCP_RTO_MAX_MS (linux/tcp.h, kernel 6.15).
const tcpRTOMaxMS = 44

// RetransmitMax is the longest that the kernel waits before it sends something
// again, by default (TCP_RTO_MAX in include/net/tcp.h).
const RetransmitMax = 120 * time.Second

// SetRetransmitMax says how long at most is waited before what the peer has not
// acknowledged is sent again: a peer that comes back after hours hears no sooner of
// what it was sent meanwhile. From 1 s to RetransmitMax; a kernel before 6.15 does not know it,
// which is ENOPROTOOPT. With no user timeout the connection ends after 15
// retransmissions all the same.
func (c *Conn) SetRetransmitMax(d time.Duration) error {
	err := c.control(func(fd int) error {
		return call.Set(fd, unix.IPPROTO_TCP, tcpRTOMaxMS, int(d.Milliseconds()))
	})
	if err != nil {
		return fmt.Errorf("setting TCP_RTO_MAX_MS: %w", err)
	}
	return nil
}
