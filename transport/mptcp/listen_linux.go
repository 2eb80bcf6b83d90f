// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fastOpenQueue bounds the connections that have data in their SYN and no
// third ACK yet; more are answered with an ordinary handshake.
const fastOpenQueue = 1024

// Listen opens a listener that accepts MPTCP, plain TCP, and data in the SYN
// of clients that show a Fast Open cookie (net.ipv4.tcp_fastopen bit 0x2;
// with MPTCP from kernel 6.2). An unspecified IPv6 address listens for both
// families.
func Listen(ctx context.Context, addr string) (*net.TCPListener, error) {
	lc := net.ListenConfig{
		// A client that lost its power is noticed, where MPTCP has keepalive
		// (kernel 6.5); else the relay's idle limit ends the connection. More
		// often would cost those with a volume limit.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Hour, Interval: time.Minute, Count: 5},
		Control: func(_, _ string, rc syscall.RawConn) error {
			var failed error
			err := rc.Control(func(fd uintptr) {
				fixReceiveBuffer(int(fd)) // accepted connections inherit it
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, fastOpenQueue)
			})
			if err != nil {
				return err
			}
			// MPTCP before 6.2 says one of the two.
			if failed != nil && failed != unix.EOPNOTSUPP && failed != unix.ENOPROTOOPT {
				return fmt.Errorf("setting TCP_FASTOPEN: %w", failed)
			}
			return nil
		},
	}
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l.(*net.TCPListener), nil
}

// Accept takes the next connection of a listener made by Listen.
func Accept(l *net.TCPListener) (*Conn, error) {
	tc, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return wrap(tc), nil
}

// WaitEstablished returns once the third ACK of an accepted connection is
// in. What is written before, on an MPTCP connection whose SYN carried data,
// stays unsent until the next write (seen on 6.18). The kernel wakes nobody
// when that ACK arrives, so this looks again, at intervals of an eighth of
// the time waited so far.
func (c *Conn) WaitEstablished(ctx context.Context) error {
	start := time.Now()
	for {
		ti, err := c.TCPInfo()
		if err != nil {
			return fmt.Errorf("reading TCP_INFO: %w", err)
		}
		if ti.State != StateSYNRecv {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(500*time.Microsecond, time.Since(start)/8)):
		}
	}
}
