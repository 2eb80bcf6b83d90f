// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// asker asks the kernel for routes, by a netlink socket that stays: each
// connection asks, and two system calls are all that a question takes. The zero
// value is ready.
type asker struct {
	mu       sync.Mutex
	open     bool
	fd       int
	sequence uint32
	buf      [4096]byte // more than one route
}

var routes asker

// IsLocal says whether this host itself would take what is sent to an address:
// by the routing table at this moment, which knows of more than the addresses
// of interfaces (AnyIP), and of broadcast.
func IsLocal(a netip.Addr) (bool, error) {
	kind, err := routes.kind(a)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false, nil // nobody takes it, as connect will find
	case err != nil:
		return false, fmt.Errorf("asking for the route to %v: %w", a, err)
	}
	switch kind {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return true, nil
	}
	return false, nil
}

// kind is the type of the route to an address (rtnetlink(7)).
func (r *asker) kind(a netip.Addr) (kind uint8, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		if r.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
			return 0, err
		}
		r.open = true
	}
	defer func() {
		if err != nil && !errors.As(err, new(refused)) { // a late answer would be taken for that to the next question
			unix.Close(r.fd)
			r.open = false
		}
	}()
	r.sequence++
	if err := unix.Sendto(r.fd, question(a, r.sequence), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	// The kernel has answered by now.
	n, _, err := unix.Recvfrom(r.fd, r.buf[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, err
	}
	return answer(r.buf[:n], r.sequence)
}

// refused is the kernel's own word.
type refused struct{ unix.Errno }

func (r refused) Unwrap() error { return r.Errno }

var native = binary.NativeEndian

// question is RTM_GETROUTE: struct nlmsghdr, struct rtmsg, and one attribute.
func question(a netip.Addr, sequence uint32) []byte {
	family, addr := byte(unix.AF_INET), a.AsSlice()
	if a.Is6() {
		family = unix.AF_INET6
	}
	size := unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + len(addr)
	b := make([]byte, size)
	native.PutUint32(b, uint32(size))
	native.PutUint16(b[4:], unix.RTM_GETROUTE)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], sequence)
	b[unix.SizeofNlMsghdr] = family
	b[unix.SizeofNlMsghdr+1] = byte(a.BitLen()) // rtm_dst_len
	attr := b[unix.SizeofNlMsghdr+unix.SizeofRtMsg:]
	native.PutUint16(attr, uint16(len(attr)))
	native.PutUint16(attr[2:], unix.RTA_DST)
	copy(attr[unix.SizeofRtAttr:], addr)
	return b
}

// answer reads RTM_NEWROUTE, or what the kernel says instead.
func answer(b []byte, sequence uint32) (kind uint8, err error) {
	if len(b) < unix.SizeofNlMsghdr+unix.SizeofRtMsg || native.Uint32(b[8:]) != sequence {
		return 0, errors.New("the kernel answers something else")
	}
	body := b[unix.SizeofNlMsghdr:]
	switch native.Uint16(b[4:]) {
	case unix.RTM_NEWROUTE:
		return body[7], nil // rtm_type
	case unix.NLMSG_ERROR:
		return 0, refused{unix.Errno(-int32(native.Uint32(body)))}
	}
	return 0, errors.New("the kernel answers something else")
}
