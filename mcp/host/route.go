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

	"braid/transport/call"
)

// asker asks the kernel for routes, by a netlink socket that stays: each
// connection asks, and two system calls are all that a question takes. The zero
// value is ready.
type asker struct {
	mu       sync.Mutex
	open     bool
	fd       int
	sequence uint32
	ask      [64]byte   // more than one question
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
	if !a.IsValid() {
		return 0, unix.EINVAL
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		if r.fd, err = unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_ROUTE); err != nil {
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
	// To the kernel, where nobody else is named.
	if _, err := call.Write(r.fd, appendQuestion(r.ask[:0], a, r.sequence)); err != nil {
		return 0, err
	}
	n, err := call.Read(r.fd, r.buf[:]) // it has answered by now
	if err != nil {
		return 0, err
	}
	return answer(r.buf[:n], r.sequence)
}

// refused is the kernel's own word.
type refused struct{ unix.Errno }

func (r refused) Unwrap() error { return r.Errno }

var native = binary.NativeEndian

// appendQuestion appends RTM_GETROUTE: struct nlmsghdr, struct rtmsg, and one
// attribute.
func appendQuestion(b []byte, a netip.Addr, sequence uint32) []byte {
	family, bytes := byte(unix.AF_INET), a.BitLen()/8
	if a.Is6() {
		family = unix.AF_INET6
	}
	attr := unix.SizeofRtAttr + bytes
	b = native.AppendUint32(b, uint32(unix.SizeofNlMsghdr+unix.SizeofRtMsg+attr))
	b = native.AppendUint16(b, unix.RTM_GETROUTE)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, sequence)
	b = native.AppendUint32(b, 0)                      // nlmsg_pid
	b = append(b, family, byte(a.BitLen()))            // rtm_dst_len
	b = append(b, make([]byte, unix.SizeofRtMsg-2)...) // no more of it is asked for
	b = native.AppendUint16(b, uint16(attr))
	b = native.AppendUint16(b, unix.RTA_DST)
	if a.Is6() {
		to := a.As16()
		return append(b, to[:]...)
	}
	to := a.As4()
	return append(b, to[:]...)
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
