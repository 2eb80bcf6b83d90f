// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// fastOpenQueue bounds the connections that have data in their SYN and no
// third ACK yet; more are answered with an ordinary handshake.
const fastOpenQueue = 1024

// Listen opens a listener that accepts MPTCP, plain TCP, and data in the SYN
// of clients that show a Fast Open cookie (net.ipv4.tcp_fastopen bit 0x2;
// with MPTCP from kernel 6.2). An unspecified IPv6 address listens for both
// families, or for IPv4 alone where the kernel has no IPv6. What it accepts sends over
// lines.
func Listen(ctx context.Context, addr netip.AddrPort) (*Listener, error) {
	lc := net.ListenConfig{
		// Whoever dials keeps the NATs on the way awake, if need be; what is silent
		// for longer than that ends by the relay's idle limit.
		KeepAlive: -1,
		Control: func(_, _ string, rc syscall.RawConn) error {
			var failed error
			err := rc.Control(func(fd uintptr) {
				bequeath(int(fd))
				failed = call.Set(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, fastOpenQueue)
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
	network := "tcp"
	if addr.Addr().Is4() { // else 0.0.0.0 would be for IPv6 as well
		network = "tcp4"
	}
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listening on %v: %w", addr, err)
	}
	return NewListener(l.(*net.TCPListener))
}

// IsAt says whether a listener is what Listen opens at an address.
func (l *Listener) IsAt(addr netip.AddrPort) bool {
	is := l.Addr().(*net.TCPAddr).AddrPort()
	if addr.Addr() == netip.IPv6Unspecified() && is.Addr() == netip.IPv4Unspecified() {
		return is.Port() == addr.Port() && !hasIPv6()
	}
	return is == addr
}

// hasIPv6 says whether the kernel has IPv6 (it has none with ipv6.disable=1).
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// bequeath sets what connections get from their listener.
func bequeath(fd int) {
	lines(fd)
	_ = call.Set(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = call.Set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
}

// Adopt takes over a listener that another process has opened with Listen. The
// file is closed.
func Adopt(f *os.File) (*Listener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("adopting listener: %w", err)
	}
	tl, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("adopting listener: %v is not TCP", l.Addr())
	}
	adopted, err := NewListener(tl)
	if err != nil {
		return nil, err
	}
	if err := adopted.set(bequeath); err != nil { // whoever has opened it may have it otherwise
		adopted.Close()
		return nil, fmt.Errorf("adopting listener: %w", err)
	}
	return adopted, nil
}

// Waiting is how many connections a listener has that nobody has accepted yet.
func Waiting(listener *os.File) (n int, err error) {
	rc, err := listener.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reading a listener's queue: %w", err)
	}
	ctlErr := rc.Control(func(fd uintptr) {
		var ti TCPInfo
		ti, err = tcpInfo(int(fd))
		n = ti.Unacked // which stands for that while listening
	})
	if err = cmp.Or(ctlErr, err); err != nil {
		return 0, fmt.Errorf("reading a listener's queue: %w", err)
	}
	return n, nil
}

// ReadNow is Read without waiting: the error is EAGAIN where nothing has come yet.
func (c *Conn) ReadNow(b []byte) (n int, err error) {
	err = c.control(func(fd int) (err error) {
		n, err = call.Read(fd, b)
		return err
	})
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// Gone says whether a connection has ended in both directions: by a reset, or
// because the kernel has given it up. It costs a system call and no byte.
func (c *Conn) Gone() bool {
	gone := true
	_ = c.control(func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(p, 0)
		gone = err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
		return err
	})
	return gone
}

// WaitEstablished returns once the third ACK of an accepted connection is
// in; the error wraps os.ErrDeadlineExceeded when it has not come within a time. What
// is written before, on an MPTCP connection whose SYN carried data, stays unsent until the
// next write (seen on 6.18). The kernel wakes nobody when that ACK arrives, so this
// looks again, at intervals of an eighth of the time waited so far, and at most 50 ms.
func (c *Conn) WaitEstablished(ctx context.Context, within time.Duration) error {
	start := time.Now()
	for {
		ti, err := c.TCPInfo()
		if err != nil {
			return fmt.Errorf("reading TCP_INFO: %w", err)
		}
		if ti.State != StateSYNRecv {
			return nil
		}
		waited := time.Since(start)
		if waited >= within {
			return fmt.Errorf("waiting for the third ACK: %w", os.ErrDeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(max(500*time.Microsecond, waited/8), 50*time.Millisecond)):
		}
	}
}
