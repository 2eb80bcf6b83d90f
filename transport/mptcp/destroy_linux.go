// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	stateListen      = 10

	diagRequestLen = 56 // struct inet_diag_req_v2
	diagIDOffset   = 8  // in it: struct inet_diag_sockid
	diagExt        = 2  // in it: what is to be told beside, as bits
	diagStates     = 4  // in it: which states are asked for
	diagMsgID      = 4  // in struct inet_diag_msg
	diagMsgLen     = 72
	diagIDLen      = 48
	diagInfo       = 2  // INET_DIAG_INFO, without which there is no
	diagULP        = 19 // INET_DIAG_ULP_INFO

	statesOpen = 1<<1 | 1<<2 | 1<<4 | 1<<5 | 1<<8 | 1<<9 // include/net/tcp_states.h: from SYN_SENT to LAST_ACK
)

// Destroy ends one subflow the way an arriving reset would, so that what was
// sent over it and not acknowledged goes over the others at once. It needs
// CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY (kernel 4.5), which Debian has and
// OpenWrt has not: the error then is EOPNOTSUPP. A subflow that is no more is
// no error.
func Destroy(f Subflow) error {
	request, err := find(f)
	if err == nil && request != nil {
		_, err = diag(sockDestroy, unix.NLM_F_ACK, request)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("destroying subflow %v to %v: %w", f.Local, f.Remote, err)
	}
	return nil
}

// DestroyFrom ends the connections of plain TCP that this host has opened from an
// address, as Destroy does, and tells how many there were. What others have opened,
// to a port that is listened on, is left alone.
func DestroyFrom(source netip.Addr) (n int, err error) {
	var all [][]byte
	listened := make(map[uint16]bool)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, diagRequestLen)
		request[0], request[1] = family, unix.IPPROTO_TCP
		request[diagExt] = 1 << (diagInfo - 1)
		native.PutUint32(request[diagStates:], statesOpen|1<<stateListen)
		msgs, err := diag(sockDiagByFamily, unix.NLM_F_DUMP, request)
		if err != nil {
			return n, fmt.Errorf("reading the connections from %v: %w", source, err)
		}
		for _, m := range msgs {
			switch {
			case len(m) < diagMsgLen:
			case m[1] == stateListen:
				listened[portOf(m)] = true
			case sourceOf(m) == source && !isSubflow(m):
				all = append(all, m)
			}
		}
	}
	for _, m := range all {
		if listened[portOf(m)] {
			continue
		}
		request := make([]byte, diagRequestLen)
		request[0], request[1] = m[0], unix.IPPROTO_TCP
		copy(request[diagIDOffset:], m[diagMsgID:diagMsgID+diagIDLen])
		if _, err := diag(sockDestroy, unix.NLM_F_ACK, request); err != nil && !errors.Is(err, unix.ENOENT) {
			return n, fmt.Errorf("destroying a connection from %v: %w", source, err)
		}
		n++
	}
	return n, nil
}

// portOf is the local port of a socket that the kernel has shown.
func portOf(m []byte) uint16 { return binary.BigEndian.Uint16(m[diagMsgID:]) }

// sourceOf is its local address.
func sourceOf(m []byte) netip.Addr {
	a := m[diagMsgID+4:]
	if m[0] == unix.AF_INET {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16([16]byte(a[:16])).Unmap()
}

// isSubflow says whether it belongs to a connection of MPTCP's.
func isSubflow(m []byte) bool {
	attrs, err := nl.ParseRouteAttr(m[diagMsgLen:])
	return err != nil || slices.ContainsFunc(attrs, func(a syscall.NetlinkRouteAttr) bool {
		return a.Attr.Type&^unix.NLA_F_NESTED == diagULP && bytes.Contains(a.Value, []byte("mptcp"))
	})
}

// CanDestroy says whether Destroy can do anything, by a socket of its own that
// it destroys. A kernel whose module inet_diag is missing says of every socket
// that there is none, as of one that has just ended.
func CanDestroy() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("opening socket: %w", err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1)); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("reading its address: %w", err)
	}
	request := make([]byte, diagRequestLen)
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	id := request[diagIDOffset:]
	binary.BigEndian.PutUint16(id[0:], uint16(sa.(*unix.SockaddrInet4).Port))
	copy(id[4:], []byte{127, 0, 0, 1})
	native.PutUint64(id[40:], ^uint64(0)) // any cookie
	if _, err := diag(sockDestroy, unix.NLM_F_ACK, request); err != nil {
		return fmt.Errorf("destroying a socket: %w", err)
	}
	return nil
}

// find asks for the subflow's socket and returns the request that names it,
// and no other: by its cookie and, when an endpoint has bound it to one, its
// device. It is nil when there is none; the kernel then shows the listener.
func find(f Subflow) ([]byte, error) {
	request := make([]byte, diagRequestLen)
	request[0] = unix.AF_INET6
	if f.Local.Addr().Is4() {
		request[0] = unix.AF_INET // finds v4-mapped sockets too
	}
	request[1] = unix.IPPROTO_TCP
	id := request[diagIDOffset:]
	binary.BigEndian.PutUint16(id[0:], f.Local.Port())
	binary.BigEndian.PutUint16(id[2:], f.Remote.Port())
	copy(id[4:], f.Local.Addr().AsSlice())
	copy(id[20:], f.Remote.Addr().AsSlice())
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range append([]net.Interface{{}}, links...) { // unbound first
		native.PutUint32(id[36:], uint32(l.Index))
		native.PutUint64(id[40:], ^uint64(0)) // any cookie
		msgs, err := diag(sockDiagByFamily, 0, request)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return nil, err
		case len(msgs) == 0 || len(msgs[0]) < diagMsgID+diagIDLen:
			return nil, errors.New("short answer")
		case msgs[0][1] == stateListen:
			continue
		}
		request[0] = msgs[0][0] // IPv6 if v4-mapped, as the addresses then are
		copy(id, msgs[0][diagMsgID:diagMsgID+diagIDLen])
		return request, nil
	}
	return nil, nil
}

func diag(kind, flags int, request []byte) ([][]byte, error) {
	r := nl.NewNetlinkRequest(kind, flags)
	r.AddRawData(request)
	return r.Execute(unix.NETLINK_INET_DIAG, 0)
}
