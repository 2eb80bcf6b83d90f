// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package icmp sends echo requests over one device and listens for the
// answers (RFC 792, RFC 4443).
package icmp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"braid/onpath/checksum"
)

// Types of echo messages.
const (
	echoReply4   = 0
	echoRequest4 = 8
	echoRequest6 = 128
	echoReply6   = 129
)

const (
	headerLen = 8
	// Sizes of a request or an answer as IP packets, for those who pay for
	// them.
	Size4 = 20 + headerLen
	Size6 = 40 + headerLen
)

// Conn sends over one device from one address. It is for one goroutine that
// sends and one that receives.
type Conn struct {
	conn   net.PacketConn
	v6     bool
	id     uint16
	device string
}

// Open opens a raw socket that is bound to device and source. The id tells
// the answers from those to other sockets. It needs CAP_NET_RAW.
func Open(ctx context.Context, device string, source netip.Addr, id uint16) (*Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) {
			failed = errors.Join(unix.BindToDevice(int(fd), device), filter(int(fd), source.Is6()), whole(int(fd), source.Is6()))
		})
		return errors.Join(err, failed)
	}}
	network := "ip4:icmp"
	if source.Is6() {
		network = "ip6:ipv6-icmp"
	}
	c, err := lc.ListenPacket(ctx, network, source.String())
	if err != nil {
		return nil, fmt.Errorf("opening probe socket on %s: %w", device, err)
	}
	return &Conn{c, source.Is6(), id, device}, nil
}

// filter leaves everything but echo replies in the kernel.
func filter(fd int, v6 bool) error {
	if !v6 {
		const icmpFilter = 1 // of level SOL_RAW (include/uapi/linux/icmp.h)
		blocked := ^uint32(1 << echoReply4)
		return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, int(int32(blocked)))
	}
	var f unix.ICMPv6Filter
	for i := range f.Data {
		f.Data[i] = ^uint32(0)
	}
	f.Data[echoReply6/32] &^= 1 << (echoReply6 % 32)
	return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
}

// whole keeps packets from being cut, whatever is known of the path's size.
func whole(fd int, v6 bool) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
}

// Send sends an echo request to an address, whatever the port.
func (c *Conn) Send(to netip.AddrPort, seq uint16) error {
	return c.SendSize(to.Addr(), seq, 0)
}

// SendSize sends an echo request whose IP packet has a size in bytes, or the
// least there is; so has the answer. It is sent whole, or not at all.
func (c *Conn) SendSize(peer netip.Addr, seq uint16, size int) error {
	header := Size4 - headerLen
	if c.v6 {
		header = Size6 - headerLen
	}
	b := make([]byte, max(size-header, headerLen))
	b[0] = echoRequest4
	if c.v6 {
		b[0] = echoRequest6 // the kernel adds the checksum
	}
	binary.BigEndian.PutUint16(b[4:], c.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	if !c.v6 {
		binary.BigEndian.PutUint16(b[2:], checksum.Of(checksum.Sum(b)))
	}
	if _, err := c.conn.WriteTo(b, &net.IPAddr{IP: peer.AsSlice()}); err != nil {
		return fmt.Errorf("probing %v over %s: %w", peer, c.device, err)
	}
	return nil
}

// Receive waits for the next answer. After Close it returns net.ErrClosed.
func (c *Conn) Receive() (seq uint16, from netip.Addr, err error) {
	var buf [256]byte
	for {
		n, addr, err := c.conn.ReadFrom(buf[:])
		if err != nil {
			return 0, netip.Addr{}, err
		}
		b := buf[:n]
		want := byte(echoReply4)
		if c.v6 {
			want = echoReply6
		}
		if n < headerLen || b[0] != want || binary.BigEndian.Uint16(b[4:]) != c.id {
			continue
		}
		ip, _ := netip.AddrFromSlice(addr.(*net.IPAddr).IP)
		return binary.BigEndian.Uint16(b[6:]), ip.Unmap(), nil
	}
}

// Close ends Receive.
func (c *Conn) Close() error { return c.conn.Close() }
