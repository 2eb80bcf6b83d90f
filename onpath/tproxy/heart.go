// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heart tells the packet filter that its process lives, by packets with a mark
// of their own over the loopback. The filter is to intercept a family only for
// a while after such a packet of that family. Its sockets are none of the net
// package's, whose poller would be woken by each packet.
type Heart struct {
	mu     sync.Mutex
	beats  []beat
	closed bool
}

// beat is a socket that is connected to itself.
type beat int

// NewHeart opens a heart whose packets bear a mark. It needs CAP_NET_ADMIN.
func NewHeart(mark uint32) (*Heart, error) {
	var h Heart
	for _, self := range []unix.Sockaddr{
		&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}},
		&unix.SockaddrInet6{Addr: [16]byte{15: 1}},
	} {
		one, err := openBeat(self, mark)
		switch {
		case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
			continue // IPv6 is off
		case err != nil:
			h.Close()
			return nil, fmt.Errorf("opening heartbeat socket: %w", err)
		}
		h.beats = append(h.beats, one)
	}
	return &h, nil
}

func openBeat(self unix.Sockaddr, mark uint32) (beat, error) {
	family := unix.AF_INET
	if _, v6 := self.(*unix.SockaddrInet6); v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
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
	return beat(fd), err
}

// Beat sends one packet a family, to the heart itself: nobody reads them, and
// what does not fit its buffer is dropped.
func (h *Heart) Beat() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return net.ErrClosed
	}
	var errs []error
	var one byte
	for _, b := range h.beats {
		// Without a word to Go's runtime, which would wake its monitor for it.
		var errno unix.Errno
		for range 2 {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(b), uintptr(unsafe.Pointer(&one)), 1, unix.MSG_DONTWAIT, 0, 0)
			if errno == 0 { // else somebody may have rejected the one before, and this one was not sent
				break
			}
		}
		if errno != 0 {
			errs = append(errs, fmt.Errorf("sending heartbeat: %w", errno))
		}
	}
	return errors.Join(errs...)
}

// Close stops the heart, and with it the interception once the while is over.
func (h *Heart) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, b := range h.beats {
		errs = append(errs, unix.Close(int(b)))
	}
	h.beats, h.closed = nil, true
	return errors.Join(errs...)
}
