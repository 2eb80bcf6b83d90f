// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package syn holds SYNs until it is known how the far side answers.
//
// The packet filter drops an intercepted SYN at the loopback, where a packet
// socket has seen it. When the far side has answered, the very same packet is
// sent again with a mark that has the filter give it to a transparent listener;
// or its sender gets the refusal that the server would have sent.
// Retransmitted SYNs come by here as well, so that nothing is lost should a
// packet be.
package syn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"braid/onpath/raw"
	"braid/transport/mptcp"
)

// Marks are those by which a Holder and the packet filter understand each
// other.
type Marks struct {
	// Mask has the bits that count of a mark.
	Mask uint32
	// Ways are the marks of the SYNs to hold, one for each way in which the
	// filter distinguishes them.
	Ways []uint32
	// Accepted is set beside its way's in a SYN that goes on.
	Accepted uint32
	// Answer is the mark of what is said to those who sent SYNs.
	Answer uint32
}

// SYN is a held SYN.
type SYN struct {
	Src, Dst netip.AddrPort
	Way      int    // index of its mark in Marks.Ways
	Class    uint8  // see mptcp.TrafficClass
	packet   []byte // from the IP header on
	tcp      int    // offset of the TCP header
}

// maxPacket is room for a SYN that carries data (TCP Fast Open).
const maxPacket = 2048

// Holder sees the SYNs and answers them.
type Holder struct {
	toLAN *raw.Sender
	ways  []way
	open  []io.Closer // all
}

// way is where the SYNs come by of which the packet filter says the same.
type way struct {
	in   *os.File    // packet socket on the loopback
	back *raw.Sender // to the loopback
}

// Open starts to see SYNs. It needs CAP_NET_RAW and CAP_NET_ADMIN.
func Open(m Marks) (*Holder, error) {
	h := &Holder{ways: make([]way, len(m.Ways))}
	if err := h.start(m); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Holder) start(m Marks) (err error) {
	if h.toLAN, err = raw.Open(m.Answer); err != nil {
		return err
	}
	h.open = append(h.open, h.toLAN)
	for i, mark := range m.Ways {
		w := &h.ways[i]
		if w.back, err = raw.Open(mark | m.Accepted); err != nil {
			return err
		}
		h.open = append(h.open, w.back)
		if w.in, err = openPacket(mark, m.Mask); err != nil {
			return err
		}
		h.open = append(h.open, w.in)
	}
	return nil
}

// openPacket opens a packet socket that sees the packets on the loopback which
// bear a mark in the bits of mask.
func openPacket(mark, mask uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening packet socket: %w", err)
	}
	lo, err := loopback()
	if err == nil {
		filter := markFilter(mark, mask)
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: lo})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

// markFilter is a classic BPF program: received packets with a mark of ours.
func markFilter(mark, mask uint32) []unix.SockFilter {
	const (
		adOff    = -0x1000 & 0xffffffff // SKF_AD_OFF
		adType   = 4                    // SKF_AD_PKTTYPE
		adMark   = 20                   // SKF_AD_MARK
		loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		and      = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: loadWord, K: adOff + adType},
		{Code: jumpEq, K: unix.PACKET_HOST, Jf: 3},
		{Code: loadWord, K: adOff + adMark},
		{Code: and, K: mask},
		{Code: jumpEq, K: mark, Jt: 1},
		{Code: ret, K: 0},
		{Code: ret, K: maxPacket},
	}
}

// Serve hands every SYN to handle, those of one way one after the other, until
// Close.
func (h *Holder) Serve(handle func(SYN)) error {
	failedC := make(chan error)
	for i := range h.ways {
		go func() { failedC <- h.serve(i, handle) }()
	}
	var errs []error
	for range h.ways {
		errs = append(errs, <-failedC)
		h.Close() // some alone are of no use
	}
	return errors.Join(errs...)
}

func (h *Holder) serve(way int, handle func(SYN)) error {
	for {
		b := make([]byte, maxPacket)
		n, err := h.ways[way].in.Read(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if s, ok := parse(b[:n]); ok {
			s.Way = way
			handle(s)
		}
	}
}

// parse takes what is a SYN without ACK.
func parse(b []byte) (SYN, bool) {
	const tcpLen = 20
	s := SYN{packet: b, Class: mptcp.TrafficClass(b)}
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

// Close ends Serve.
func (h *Holder) Close() error {
	var errs []error
	for _, o := range h.open {
		if err := o.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
