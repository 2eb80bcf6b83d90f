// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// Options of level SOL_MPTCP (include/uapi/linux/mptcp.h, kernel 5.16).
const (
	solMPTCP     = 284
	optInfo      = 1
	optTCPInfo   = 2
	optAddresses = 3
)

// maxSubflows is more than any kernel keeps on one connection (8 and the
// first, up to 6.18).
const maxSubflows = 16

// sockaddrSize is that of struct mptcp_subflow_addrs: a local and a remote
// struct __kernel_sockaddr_storage.
const sockaddrSize = 2 * 128

// subflowData is the header of the per-subflow options:
// size_subflow_data, num_subflows, size_kernel, size_user.
const subflowData = 16

var native = binary.NativeEndian

// Info reads MPTCP_INFO. On a connection that fell back to TCP it answers
// ENOPROTOOPT or EOPNOTSUPP.
func (c *Conn) Info() (Info, error) {
	var in Info
	err := c.control(func(fd int) error {
		var buf [128]byte
		n, err := call.Get(fd, solMPTCP, optInfo, buf[:])
		if err == nil {
			in = parseInfo(buf[:n])
		}
		return err
	})
	return in, err
}

// parseInfo reads as much of struct mptcp_info as the kernel gave; what it
// did not give is zero.
func parseInfo(b []byte) Info {
	var full [128]byte
	copy(full[:], b)
	b = full[:]
	ms := func(off int) time.Duration { return time.Duration(native.Uint32(b[off:])) * time.Millisecond }
	return Info{
		Subflows:       int(b[0]),
		Fallback:       native.Uint32(b[8:])&1 != 0,
		Token:          native.Uint32(b[12:]),
		WriteSeq:       native.Uint64(b[16:]),
		Una:            native.Uint64(b[24:]),
		ReceiveNextSeq: native.Uint64(b[32:]),
		Retransmits:    native.Uint32(b[44:]),
		BytesRetrans:   native.Uint64(b[48:]),
		BytesSent:      native.Uint64(b[56:]),
		BytesReceived:  native.Uint64(b[64:]),
		BytesAcked:     native.Uint64(b[72:]),
		SubflowsTotal:  int(b[80]),
		LastDataSent:   ms(84),
		LastDataRecv:   ms(88),
		LastAckRecv:    ms(92),
	}
}

// Subflows reads address and TCP_INFO of every subflow. A plain TCP connection
// is its own only subflow.
func (c *Conn) Subflows() ([]Subflow, error) { return c.AppendSubflows(nil) }

// AppendSubflows is Subflows for those who ask often: it appends to flows.
func (c *Conn) AppendSubflows(flows []Subflow) ([]Subflow, error) {
	if !c.MPTCP {
		ti, err := c.TCPInfo()
		return append(flows, Subflow{Local: c.Local, Remote: c.Remote, TCPInfo: ti}), err
	}
	buf := subflowBuffers.Get().(*subflowBuffer)
	defer subflowBuffers.Put(buf)
	err := c.control(func(fd int) (err error) {
		flows, err = buf.read(fd, flows)
		return err
	})
	return flows, err
}

// subflowBuffer is what the kernel writes the subflows of a connection into.
type subflowBuffer struct {
	addrs [subflowData + maxSubflows*sockaddrSize]byte
	infos [subflowData + maxSubflows*tcpInfoSize]byte
}

var subflowBuffers = sync.Pool{New: func() any { return new(subflowBuffer) }}

// read appends the subflows of a socket. Addresses and TCP_INFO come from two
// calls, and are paired by their order: when a subflow came or went between
// them, they are read again.
func (b *subflowBuffer) read(fd int, flows []Subflow) ([]Subflow, error) {
	const tries = 5 // they do not come and go that fast
	for range tries {
		addrs, stride, err := perSubflow(fd, optAddresses, sockaddrSize, b.addrs[:])
		if err != nil {
			return flows, err
		}
		infos, infoStride, err := perSubflow(fd, optTCPInfo, tcpInfoSize, b.infos[:])
		if err != nil {
			return flows, err
		}
		n := len(addrs) / stride
		if n != len(infos)/infoStride {
			continue
		}
		for i := range n {
			a := addrs[i*stride:]
			flows = append(flows, Subflow{
				Local:   parseSockaddr(a),
				Remote:  parseSockaddr(a[sockaddrSize/2:]),
				TCPInfo: parseTCPInfo(infos[i*infoStride : (i+1)*infoStride]),
			})
		}
		return flows, nil
	}
	return flows, errors.New("reading subflows: they change all the time")
}

// perSubflow reads one of the options that give an array with an element per
// subflow into buf. The stride is what kernel and caller both know:
// min(kernel, user).
func perSubflow(fd, opt, size int, buf []byte) (elements []byte, stride int, err error) {
	clear(buf[:subflowData])
	native.PutUint32(buf[0:], subflowData)
	native.PutUint32(buf[12:], uint32(size))
	if _, err := call.Get(fd, solMPTCP, opt, buf); err != nil {
		return nil, 1, err
	}
	n := min(int(native.Uint32(buf[4:])), maxSubflows)
	stride = min(size, int(native.Uint32(buf[8:])))
	return buf[subflowData : subflowData+n*stride], stride, nil
}

// parseSockaddr reads a struct sockaddr_in or sockaddr_in6.
func parseSockaddr(b []byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[2:])
	switch native.Uint16(b) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// TCPInfo reads TCP_INFO; of an MPTCP connection, that of its first subflow.
func (c *Conn) TCPInfo() (TCPInfo, error) {
	var ti TCPInfo
	err := c.control(func(fd int) (err error) {
		ti, err = tcpInfo(fd)
		return err
	})
	return ti, err
}

// tcpInfoSize covers the fields parseTCPInfo reads; the kernel's struct has
// 232 bytes in 6.1 and 280 in 6.18.
const tcpInfoSize = 232

func tcpInfo(fd int) (TCPInfo, error) {
	var buf [tcpInfoSize]byte
	n, err := call.Get(fd, unix.IPPROTO_TCP, unix.TCP_INFO, buf[:])
	if err != nil {
		return TCPInfo{}, err
	}
	return parseTCPInfo(buf[:n]), nil
}

func parseTCPInfo(b []byte) TCPInfo {
	var full [tcpInfoSize]byte
	copy(full[:], b)
	b = full[:]
	us := func(off int) time.Duration { return time.Duration(native.Uint32(b[off:])) * time.Microsecond }
	ms := func(off int) time.Duration { return time.Duration(native.Uint32(b[off:])) * time.Millisecond }
	u32 := func(off int) int { return int(native.Uint32(b[off:])) }
	return TCPInfo{
		State:          TCPState(b[0]),
		Retransmits:    int(b[2]),
		Backoff:        int(b[4]),
		Options:        b[5],
		SndWindowScale: b[6] & 0xf,
		RTO:            us(8),
		SndMSS:         u32(16),
		RcvMSS:         u32(20),
		Unacked:        u32(24),
		Lost:           u32(32),
		LastDataSent:   ms(44),
		LastDataRecv:   ms(52),
		LastAckRecv:    ms(56),
		RTT:            us(68),
		RTTVar:         us(72),
		Cwnd:           u32(80),
		PacingRate:     native.Uint64(b[104:]),
		BytesAcked:     native.Uint64(b[120:]),
		BytesReceived:  native.Uint64(b[128:]),
		NotSent:        u32(144),
		MinRTT:         us(148),
		DeliveryRate:   native.Uint64(b[160:]),
		BytesSent:      native.Uint64(b[200:]),
		BytesRetrans:   native.Uint64(b[208:]),
		OutOfOrder:     u32(224),
	}
}
