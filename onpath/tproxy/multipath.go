// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"braid/transport/mptcp"
)

// ListenMultipath is Listen for connections to be accepted by MPTCP, by one way
// in. Both families have AF_INET6 sockets: with one of AF_INET the kernel would
// never have an IPv6 subflow on a connection that has begun over IPv4.
func ListenMultipath(mark uint32) (*Listener, error) {
	const tries = 8 // the port must be free in both families
	for try := 1; ; try++ {
		p, err := listenMultipath(mark)
		switch {
		case err == nil:
			return &Listener{ways: []pair{p}}, nil
		case !errors.Is(err, syscall.EADDRINUSE), try == tries:
			return nil, fmt.Errorf("listening for intercepted connections: %w", err)
		}
	}
}

func listenMultipath(mark uint32) (pair, error) {
	v4, err := listenMapped(netip.MustParseAddrPort("[::ffff:127.0.0.1]:0"), mark)
	if err != nil {
		return pair{}, err
	}
	port := netip.MustParseAddrPort(v4.Addr().String()).Port()
	v6, err := listenMapped(netip.AddrPortFrom(netip.IPv6Loopback(), port), mark)
	if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) { // IPv6 has no loopback
		v4.Close()
		return pair{}, err
	}
	return pair{v4, v6, port}, nil
}

// listenMapped listens with an AF_INET6 socket at an address that may be mapped,
// of which package net would make an AF_INET one.
func listenMapped(at netip.AddrPort, mark uint32) (*mptcp.Listener, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_IPV6, unix.IPV6_V6ONLY, 0},
		{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1},
		{unix.SOL_SOCKET, unix.SO_MARK, int(mark)},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return nil, fmt.Errorf("setting socket option %d of level %d: %w", o.name, o.level, err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // which MPTCP's listeners have from 5.17
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return mptcp.NewListener(l.(*net.TCPListener))
}
