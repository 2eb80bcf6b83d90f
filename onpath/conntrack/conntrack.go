// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package conntrack asks connection tracking about one TCP connection, and has
// it forget one.
package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes (linux/netfilter/nfnetlink_conntrack.h).
const (
	messageGet    = 1
	messageDelete = 2

	attrOriginal = 1
	attrMark     = 8

	tupleIP       = 1
	tupleProtocol = 2

	ipv4Source, ipv4Dest = 1, 2
	ipv6Source, ipv6Dest = 3, 4

	protocolNumber     = 1
	protocolSourcePort = 2
	protocolDestPort   = 3

	headerLen = 4 // struct nfgenmsg
)

// Mark is the mark of the entry of what src has opened to dst, as src knows it.
// The error wraps os.ErrNotExist if there is no entry. It needs CAP_NET_ADMIN.
func Mark(src, dst netip.AddrPort) (uint32, error) {
	answers, err := request(messageGet, src, dst).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("asking connection tracking for %v to %v: %w", src, dst, err)
	}
	for _, b := range answers {
		if len(b) < headerLen {
			continue
		}
		attrs, err := nl.ParseRouteAttr(b[headerLen:])
		if err != nil {
			return 0, fmt.Errorf("asking connection tracking for %v to %v: %w", src, dst, err)
		}
		for _, a := range attrs {
			if a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == attrMark && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, nil
}

// Delete deletes an entry, which need not be there: what belongs to it is no
// longer translated.
func Delete(src, dst netip.AddrPort) error {
	_, err := request(messageDelete, src, dst).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("deleting %v to %v from connection tracking: %w", src, dst, err)
	}
	return nil
}

// request names an entry by its original direction.
func request(message int, src, dst netip.AddrPort) *nl.NetlinkRequest {
	family, from, to := uint8(unix.AF_INET), ipv4Source, ipv4Dest
	if src.Addr().Is6() {
		family, from, to = unix.AF_INET6, ipv6Source, ipv6Dest
	}
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, unix.NLM_F_ACK)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(attrOriginal|unix.NLA_F_NESTED, nil)
	ip := tuple.AddRtAttr(tupleIP|unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(from, src.Addr().AsSlice())
	ip.AddRtAttr(to, dst.Addr().AsSlice())
	protocol := tuple.AddRtAttr(tupleProtocol|unix.NLA_F_NESTED, nil)
	protocol.AddRtAttr(protocolNumber, []byte{unix.IPPROTO_TCP})
	protocol.AddRtAttr(protocolSourcePort, binary.BigEndian.AppendUint16(nil, src.Port()))
	protocol.AddRtAttr(protocolDestPort, binary.BigEndian.AppendUint16(nil, dst.Port()))
	r.AddData(tuple)
	return r
}
