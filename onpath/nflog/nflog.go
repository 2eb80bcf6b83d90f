// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package nflog receives the packets that the packet filter shows by `log group`.
package nflog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Messages and attributes (linux/netfilter/nfnetlink_log.h).
const (
	messagePacket = 0
	messageConfig = 1

	configCommand   = 1
	configMode      = 2
	configBuffer    = 3
	configThreshold = 5
	commandBind     = 1
	copyPacket      = 2

	attrPayload = 9
)

const (
	headerLen = 16 // of a netlink message
	familyLen = 4  // struct nfgenmsg
	// buffer is what the socket may hold, in bytes: some ten thousand packets.
	buffer = 16 << 20
	// overhead is what the kernel tells of a packet beside it.
	overhead = 256
)

// Log is one group's.
type Log struct{ f *os.File }

// Open starts to receive the packets of a group, up to snap bytes of each, from
// the IP header on. One process has a group: the error wraps EPERM for the
// second. It needs CAP_NET_ADMIN.
func Open(group uint16, snap int) (*Log, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening the packet filter's log: %w", err)
	}
	if err := set(fd, group, snap); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("opening the packet filter's log, group %d: %w", group, err)
	}
	return &Log{os.NewFile(uintptr(fd), "nflog")}, nil
}

func set(fd int, group uint16, snap int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	mode := append(binary.BigEndian.AppendUint32(nil, uint32(snap)), copyPacket, 0)
	for _, c := range []struct {
		attr  uint16
		value []byte
	}{
		{configCommand, []byte{commandBind}},
		{configMode, mode},
		// For each packet the kernel takes a buffer of a page else.
		{configBuffer, binary.BigEndian.AppendUint32(nil, uint32(snap+overhead))},
		{configThreshold, []byte{0, 0, 0, 1}}, // at once
	} {
		if err := configure(fd, group, c.attr, c.value); err != nil {
			return err
		}
	}
	return nil
}

// configure sends a request and waits for its answer.
func configure(fd int, group uint16, attr uint16, value []byte) error {
	b := binary.NativeEndian.AppendUint32(nil, 0) // the length, below
	b = binary.NativeEndian.AppendUint16(b, unix.NFNL_SUBSYS_ULOG<<8|messageConfig)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, unix.AF_UNSPEC, 0)
	b = binary.BigEndian.AppendUint16(b, group)
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, attr)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 1<<16)
	for {
		// The kernel answers before Sendto returns; packets may come between.
		n, _, err := unix.Recvfrom(fd, answer, 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return err
		case n < headerLen+4, binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR:
			continue
		}
		if code := int32(binary.NativeEndian.Uint32(answer[headerLen:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}

// Serve hands each packet to handle, which must not keep it, until Close. What
// there is no room for is lost.
func (l *Log) Serve(handle func(packet []byte)) error {
	b := make([]byte, 1<<16)
	for {
		n, err := l.f.Read(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return fmt.Errorf("reading the packet filter's log: %w", err)
		}
		each(b[:n], handle)
	}
}

// each finds the packets in a datagram of netlink messages.
func each(b []byte, handle func(packet []byte)) {
	for len(b) >= headerLen {
		n := int(binary.NativeEndian.Uint32(b))
		if n < headerLen || n > len(b) {
			return
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NFNL_SUBSYS_ULOG<<8|messagePacket && n >= headerLen+familyLen {
			if p := payload(b[headerLen+familyLen : n]); p != nil {
				handle(p)
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
}

func payload(attrs []byte) []byte {
	for len(attrs) >= 4 {
		n := int(binary.NativeEndian.Uint16(attrs))
		if n < 4 || n > len(attrs) {
			return nil
		}
		if binary.NativeEndian.Uint16(attrs[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == attrPayload {
			return attrs[4:n]
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return nil
}

// Close ends Serve.
func (l *Log) Close() error {
	if err := l.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
