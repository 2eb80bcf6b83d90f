// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package ra asks the routers of a link for their advertisements and listens
// to them (RFC 4861), beside the kernel, which does with them what it does.
package ra

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	solicitation  = 133
	advertisement = 134
	hopLimit      = 255 // of packets that no router has forwarded
)

// allRouters are the routers on a link.
var allRouters = net.ParseIP("ff02::2")

// Conn listens on one device. It is for one goroutine that receives; any may
// solicit.
type Conn struct {
	conn   *net.IPConn
	device string
	buf    [1500]byte
	oob    [64]byte
}

// Open opens a raw socket that is bound to the device. It needs CAP_NET_RAW.
func Open(ctx context.Context, device string) (*Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) { failed = prepare(int(fd), device) })
		return errors.Join(err, failed)
	}}
	c, err := lc.ListenPacket(ctx, "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("listening for router advertisements on %s: %w", device, err)
	}
	return &Conn{conn: c.(*net.IPConn), device: device}, nil
}

func prepare(fd int, device string) error {
	var f unix.ICMPv6Filter
	for i := range f.Data {
		f.Data[i] = ^uint32(0)
	}
	f.Data[advertisement/32] &^= 1 << (advertisement % 32)
	return errors.Join(
		unix.BindToDevice(fd, device),
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hopLimit))
}

// Solicit asks the routers for advertisements.
func (c *Conn) Solicit() error {
	message := [8]byte{solicitation} // the kernel adds the checksum
	if _, err := c.conn.WriteTo(message[:], &net.IPAddr{IP: allRouters}); err != nil {
		return fmt.Errorf("soliciting routers on %s: %w", c.device, err)
	}
	return nil
}

// Receive waits for a valid advertisement (RFC 4861, 6.1.2) and returns its
// options, which are valid until the next call. After Close it returns
// net.ErrClosed.
func (c *Conn) Receive() (options []byte, from netip.Addr, err error) {
	const header = 16
	for {
		n, oobn, _, addr, err := c.conn.ReadMsgIP(c.buf[:], c.oob[:])
		if err != nil {
			return nil, netip.Addr{}, err
		}
		from, _ := netip.AddrFromSlice(addr.IP)
		if n < header || !from.IsLinkLocalUnicast() || c.buf[1] != 0 || hops(c.oob[:oobn]) != hopLimit {
			continue
		}
		return c.buf[header:n], from.WithZone(c.device), nil
	}
}

// hops reads the hop limit of a packet, 0 if it is not there.
func hops(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return 0
}

// Close ends Receive.
func (c *Conn) Close() error { return c.conn.Close() }
