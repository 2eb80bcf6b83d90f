// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package raw sends packets that were made elsewhere, headers and all.
package raw

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Sender has a socket of each family.
type Sender struct{ v4, v6 *os.File } // nil: the family is off

// Open opens a sender whose packets bear a mark. It needs CAP_NET_RAW and
// CAP_NET_ADMIN.
func Open(mark uint32) (*Sender, error) {
	s := new(Sender)
	for _, f := range []struct {
		file   **os.File
		family int
	}{{&s.v4, unix.AF_INET}, {&s.v6, unix.AF_INET6}} {
		file, err := open(f.family, mark)
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT): // IPv6 is off
		case err != nil:
			s.Close()
			return nil, fmt.Errorf("opening raw socket: %w", err)
		default:
			*f.file = file
		}
	}
	return s, nil
}

func open(family int, mark uint32) (*os.File, error) {
	// IPPROTO_RAW implies IP_HDRINCL, and IPV6_HDRINCL (kernel 4.5).
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "raw"), nil
}

// Send sends a packet, from its IP header on, to where the routing table leads
// for an address. The kernel fills in IPv4's identification and checksum.
func (s *Sender) Send(packet []byte, to netip.Addr) error {
	f, sa := s.v6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		f, sa = s.v4, &unix.SockaddrInet4{Addr: to.As4()}
	}
	var failed error
	rc, err := f.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), packet, 0, sa) })
	}
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("sending a packet to %v: %w", to, err)
	}
	return nil
}

// Close closes the sockets.
func (s *Sender) Close() error {
	var errs []error
	for _, f := range []*os.File{s.v4, s.v6} {
		if f == nil {
			continue
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
