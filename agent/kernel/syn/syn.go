// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package syn holds the LAN's SYNs until it is known how the far side answers.
//
// The packet filter drops an intercepted SYN at the loopback, where a packet
// socket has seen it. When the far side has answered, the very same packet is
// sent again with plan.MarkAgent, which the filter gives to the proxy's
// listener; or the LAN host gets the refusal that the server would have sent.
// Retransmitted SYNs come by here as well, so that nothing is lost should a
// packet be.
package syn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"braid/agent/plan"
)

// SYN is a held SYN.
type SYN struct {
	Src, Dst netip.AddrPort
	packet   []byte // from the IP header on
	tcp      int    // offset of the TCP header
}

// maxPacket is room for a SYN that carries data (TCP Fast Open).
const maxPacket = 2048

// Holder sees the SYNs and answers them.
type Holder struct {
	in *os.File // packet socket on the loopback
	// Raw sockets: towards the LAN, and back to the loopback. -1: IPv6 is off.
	out4, out6, inject4, inject6 int
	raw                          []int
}

// Open starts to see SYNs. It needs CAP_NET_RAW and CAP_NET_ADMIN.
func Open() (*Holder, error) {
	h := &Holder{}
	in, err := openPacket()
	if err != nil {
		return nil, fmt.Errorf("opening packet socket: %w", err)
	}
	h.in = os.NewFile(uintptr(in), "packet")
	for _, s := range []struct {
		fd     *int
		family int
		mark   int
	}{
		{&h.out4, unix.AF_INET, plan.MarkLAN}, {&h.inject4, unix.AF_INET, plan.MarkAgent},
		{&h.out6, unix.AF_INET6, plan.MarkLAN}, {&h.inject6, unix.AF_INET6, plan.MarkAgent},
	} {
		fd, err := openRaw(s.family, s.mark)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			fd = -1 // IPv6 is off
		} else if err != nil {
			h.Close()
			return nil, fmt.Errorf("opening raw socket: %w", err)
		}
		*s.fd = fd
		h.raw = append(h.raw, fd)
	}
	return h, nil
}

func openRaw(family, mark int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil // IPPROTO_RAW implies IP_HDRINCL, and IPV6_HDRINCL (kernel 4.5)
}

// openPacket opens a packet socket that sees the TCP packets on the loopback
// which bear plan.MarkIntercept, and are not sent by Accept.
func openPacket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	lo, err := loopback()
	if err == nil {
		filter := markFilter()
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: lo})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// markFilter is a classic BPF program: received packets with the interception
// mark.
func markFilter() []unix.SockFilter {
	const (
		adOff    = -0x1000 & 0xffffffff // SKF_AD_OFF
		adType   = 4                    // SKF_AD_PKTTYPE
		adMark   = 20                   // SKF_AD_MARK
		loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jumpSet  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		and      = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: loadWord, K: adOff + adType},
		{Code: jumpEq, K: unix.PACKET_HOST, Jf: 4},
		{Code: loadWord, K: adOff + adMark},
		{Code: and, K: plan.MarkWAN | plan.MarkIntercept},
		{Code: jumpEq, K: plan.MarkAgent, Jt: 1}, // what Accept has sent
		{Code: jumpSet, K: plan.MarkIntercept, Jt: 1},
		{Code: ret, K: 0},
		{Code: ret, K: maxPacket},
	}
}

// Next waits for a SYN. After Close it returns os.ErrClosed.
func (h *Holder) Next() (SYN, error) {
	for {
		b := make([]byte, maxPacket)
		n, err := h.in.Read(b)
		if err != nil {
			return SYN{}, err
		}
		if s, ok := parse(b[:n]); ok {
			return s, nil
		}
	}
}

// parse takes what is a SYN without ACK.
func parse(b []byte) (SYN, bool) {
	const tcpLen = 20
	s := SYN{packet: b}
	var src, dst netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_TCP:
		s.tcp = int(b[0]&15) * 4
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case len(b) >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		s.tcp = 40
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	default:
		return SYN{}, false
	}
	if len(b) < s.tcp+tcpLen || b[s.tcp+13]&0x17 != 0x02 { // FIN, SYN, RST, ACK
		return SYN{}, false
	}
	s.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[s.tcp:]))
	s.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[s.tcp+2:]))
	return s, true
}

// Close ends Next.
func (h *Holder) Close() error {
	err := h.in.Close()
	for _, fd := range h.raw {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	return err
}
