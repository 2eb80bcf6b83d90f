// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package tproxy makes the sockets that transparent interception needs.
package tproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/mptcp"
)

// Listener accepts intercepted connections of both families. It listens on
// the loopback addresses alone, where only the packet filter brings
// others' packets; the local address of what it accepts is the destination that was
// dialled. It has a port for each way in that the filter distinguishes.
type Listener struct {
	ways []pair
}

// pair listens on one port.
type pair struct {
	v4, v6 *mptcp.Listener // v6 is nil where the kernel has no IPv6
	port   uint16
}

// Listen opens a listener with n ways in, on ports of the kernel's choice. The
// mark is that of its packets. It needs CAP_NET_ADMIN.
func Listen(ctx context.Context, mark uint32, n int) (*Listener, error) {
	l := new(Listener)
	for range n {
		p, err := listen(ctx, mark)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.ways = append(l.ways, p)
	}
	return l, nil
}

func listen(ctx context.Context, mark uint32) (pair, error) {
	const tries = 8 // the port must be free in both families
	for try := 1; ; try++ {
		p, err := listenOnce(ctx, mark)
		if !errors.Is(err, syscall.EADDRINUSE) || try == tries {
			return p, err
		}
	}
}

func listenOnce(ctx context.Context, mark uint32) (pair, error) {
	v4, err := listenTCP(ctx, mark, "tcp4", "127.0.0.1:0", unix.SOL_IP, unix.IP_TRANSPARENT)
	if err != nil {
		return pair{}, err
	}
	port := netip.MustParseAddrPort(v4.Addr().String()).Port()
	v6, err := listenTCP(ctx, mark, "tcp6", "[::1]:"+strconv.Itoa(int(port)), unix.SOL_IPV6, unix.IPV6_TRANSPARENT)
	if err != nil && !errors.Is(err, syscall.EAFNOSUPPORT) {
		v4.Close()
		return pair{}, err
	}
	return pair{v4, v6, port}, nil
}

func listenTCP(ctx context.Context, mark uint32, network, addr string, level, opt int) (*mptcp.Listener, error) {
	lc := net.ListenConfig{
		// A host that sleeps is not gone. Whoever carries its connections has a
		// limit for those that are silent.
		KeepAlive: -1,
		Control: control(func(fd int) error {
			if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
				return fmt.Errorf("setting IP_TRANSPARENT: %w", err)
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				return fmt.Errorf("setting TCP_NODELAY: %w", err)
			}
			// What is accepted keeps a byte of urgent data in its place.
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1); err != nil {
				return fmt.Errorf("setting SO_OOBINLINE: %w", err)
			}
			// Of which mptcp.AnswerInClass takes the traffic class.
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1); err != nil {
				return fmt.Errorf("setting TCP_SAVE_SYN: %w", err)
			}
			return setMark(fd, mark)
		}),
	}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return mptcp.NewListener(l.(*net.TCPListener))
}

// Ports are where the listener listens, on 127.0.0.1 and ::1, one for each way
// in.
func (l *Listener) Ports() (ports []uint16) {
	for _, p := range l.ways {
		ports = append(ports, p.port)
	}
	return ports
}

// Each calls do for each of its listening sockets, whose options those have that
// it accepts.
func (l *Listener) Each(do func(*mptcp.Listener) error) error {
	for _, p := range l.ways {
		for _, tl := range p.listeners() {
			if err := do(tl); err != nil {
				return err
			}
		}
	}
	return nil
}

// Serve hands every accepted connection, whose Local is its destination, with the way
// by which it came in, 0 for the first, to handle, in the accepting goroutine, until
// Close. A connection made to the listener itself, which would be carried to
// itself for ever, is reset.
func (l *Listener) Serve(handle func(c *mptcp.Conn, way int)) error {
	failedC := make(chan error)
	running := 0
	for i, p := range l.ways {
		for _, tl := range p.listeners() {
			running++
			go func() { failedC <- serve(tl, i, handle) }()
		}
	}
	var errs []error
	for range running {
		errs = append(errs, <-failedC)
		l.Close() // some alone are of no use
	}
	return errors.Join(errs...)
}

func serve(l *mptcp.Listener, way int, handle func(*mptcp.Conn, int)) error {
	self := l.Addr().(*net.TCPAddr).AddrPort()
	self = netip.AddrPortFrom(self.Addr().Unmap(), self.Port())
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			time.Sleep(50 * time.Millisecond) // until somebody closes something
			continue
		case err != nil:
			return fmt.Errorf("accepting intercepted connections: %w", err)
		}
		if c.Local == self {
			c.Reset()
			continue
		}
		handle(c, way)
	}
}

// Close ends Serve. Connections stay.
func (l *Listener) Close() error {
	var errs []error
	for _, p := range l.ways {
		for _, tl := range p.listeners() {
			if err := tl.Close(); !errors.Is(err, os.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// listeners are those that are open.
func (p pair) listeners() (open []*mptcp.Listener) {
	for _, tl := range []*mptcp.Listener{p.v4, p.v6} {
		if tl != nil {
			open = append(open, tl)
		}
	}
	return open
}

func setMark(fd int, mark uint32) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("setting SO_MARK: %w", err)
	}
	return nil
}

func control(f func(fd int) error) func(_, _ string, rc syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var failed error
		if err := rc.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
			return err
		}
		return failed
	}
}
