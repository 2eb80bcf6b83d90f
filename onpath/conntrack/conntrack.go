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
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes (linux/netfilter/nfnetlink_conntrack.h).
const (
	messageGet    = 1
	messageDelete = 2

	attrOriginal      = 1
	attrReply         = 2
	attrProtocolInfo  = 4
	attrMark          = 8
	attrCountersThere = 9
	attrCountersBack  = 10
	counterBytes      = 2

	tupleIP       = 1
	tupleProtocol = 2

	ipv4Source, ipv4Dest = 1, 2
	ipv6Source, ipv6Dest = 3, 4

	protocolNumber     = 1
	protocolSourcePort = 2
	protocolDestPort   = 3

	protocolInfoTCP = 1
	tcpState        = 1
	stateTimeWait   = 7 // linux/netfilter/nf_conntrack_tcp.h; only CLOSE is beyond
	stateClose      = 8

	headerLen = 4 // struct nfgenmsg
)

// handle is the way to connection tracking, kept open: the end of a netlink socket
// of the packet filter's waits until what is deleted from its sets is gone (kernel,
// nft_rcv_nl_event).
var handle = sync.OnceValues(func() (*nl.SocketHandle, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, nil
})

func ask(r *nl.NetlinkRequest) ([][]byte, error) {
	h, err := handle()
	if err != nil {
		return nil, err
	}
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: h}
	return r.Execute(unix.NETLINK_NETFILTER, 0)
}

// Entry is what connection tracking knows of a connection.
type Entry struct {
	Mark uint32
	// Near and Far are the two ends as the other side of all translation knows them.
	Near, Far netip.AddrPort
	// Up and Down are bytes with all headers, from and to who has opened it; 0 where
	// net.netfilter.nf_conntrack_acct was off when it began.
	Up, Down uint64
	// Ended says that both ends have said they are through, or one has reset it: the
	// entry stays for two minutes all the same.
	Ended bool
}

// Find is the entry of what src has opened to dst, as src knows it. The error
// wraps os.ErrNotExist if there is none. It needs CAP_NET_ADMIN.
func Find(src, dst netip.AddrPort) (e Entry, err error) {
	answers, err := ask(request(messageGet, src, dst))
	for _, b := range answers {
		if err == nil && len(b) >= headerLen {
			err = e.parse(b[headerLen:])
		}
	}
	if err != nil {
		return Entry{}, fmt.Errorf("asking connection tracking for %v to %v: %w", src, dst, err)
	}
	return e, nil
}

func (e *Entry) parse(b []byte) error {
	attrs, err := attributes(b)
	if err != nil {
		return err
	}
	if v := attrs[attrMark]; len(v) == 4 {
		e.Mark = binary.BigEndian.Uint32(v)
	}
	for attr, bytes := range map[uint16]*uint64{attrCountersThere: &e.Up, attrCountersBack: &e.Down} {
		counters, err := attributes(attrs[attr])
		if err != nil {
			return err
		}
		if v := counters[counterBytes]; len(v) == 8 {
			*bytes = binary.BigEndian.Uint64(v)
		}
	}
	info, err := attributes(attrs[attrProtocolInfo])
	if err != nil {
		return err
	}
	if info, err = attributes(info[protocolInfoTCP]); err != nil {
		return err
	}
	if v := info[tcpState]; len(v) == 1 {
		e.Ended = v[0] == stateTimeWait || v[0] == stateClose
	}
	reply, err := attributes(attrs[attrReply])
	if err != nil {
		return err
	}
	ip, err := attributes(reply[tupleIP])
	if err != nil {
		return err
	}
	protocol, err := attributes(reply[tupleProtocol])
	if err != nil {
		return err
	}
	for _, end := range []struct {
		at               *netip.AddrPort
		ipv4, ipv6, port uint16
	}{{&e.Far, ipv4Source, ipv6Source, protocolSourcePort}, {&e.Near, ipv4Dest, ipv6Dest, protocolDestPort}} {
		addr, ok := netip.AddrFromSlice(slices.Concat(ip[end.ipv4], ip[end.ipv6]))
		if port := protocol[end.port]; ok && len(port) == 2 {
			*end.at = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
		}
	}
	return nil
}

// attributes are those that lie side by side, by their types.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	m := make(map[uint16][]byte, len(list))
	for _, a := range list {
		m[a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Value
	}
	return m, nil
}

// Delete deletes an entry, which need not be there: what belongs to it is no
// longer translated.
func Delete(src, dst netip.AddrPort) error {
	_, err := ask(request(messageDelete, src, dst))
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
