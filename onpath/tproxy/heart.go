// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heart tells the packet filter that its process lives, by packets with a mark
// of their own over the loopback. The filter is to intercept a family only for
// a while after such a packet of that family. Its sockets are none of the net
// package's, whose poller would be woken by each packet.
type Heart struct {
	mu  sync.Mutex
	fds []int
}

// NewHeart opens a heart whose packets bear a mark. It needs CAP_NET_ADMIN.
func NewHeart(mark uint32) (*Heart, error) {
	var h Heart
	for _, self := range []unix.Sockaddr{
		&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}},
		&unix.SockaddrInet6{Addr: [16]byte{15: 1}},
	} {
		fd, err := openHeart(self, mark)
		switch {
		case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
			continue // IPv6 is off
		case err != nil:
			h.Close()
			return nil, fmt.Errorf("opening heartbeat socket: %w", err)
		}
		h.fds = append(h.fds, fd)
	}
	return &h, nil
}

// openHeart opens a socket that sends to itself.
func openHeart(self unix.Sockaddr, mark uint32) (fd int, err error) {
	family := unix.AF_INET
	if _, v6 := self.(*unix.SockaddrInet6); v6 {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	err = setMark(fd, mark)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) // the least there is
	}
	if err == nil {
		err = unix.Bind(fd, self)
	}
	if err == nil {
		self, err = unix.Getsockname(fd)
	}
	if err == nil {
		err = unix.Connect(fd, self)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// Beat sends one packet a family, to the heart itself: nobody reads them, and
// what does not fit its buffer is dropped. The runtime is not told of a call that does
// not wait: its monitor would wake up.
func (h *Heart) Beat() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, fd := range h.fds {
		var packet [1]byte
		_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&packet)), unsafe.Sizeof(packet), unix.MSG_DONTWAIT, 0, 0)
		if e != 0 {
			errs = append(errs, os.NewSyscallError("sending heartbeat", e))
		}
	}
	return errors.Join(errs...)
}

// Close stops the heart, and with it the interception once the while is over.
func (h *Heart) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, fd := range h.fds {
		errs = append(errs, unix.Close(fd))
	}
	h.fds = nil
	return errors.Join(errs...)
}
