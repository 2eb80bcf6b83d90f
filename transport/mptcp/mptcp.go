// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package mptcp dials, accepts and reads Multipath TCP (RFC 8684) sockets of
// the Linux kernel, and speaks to its in-kernel path manager.
//
// MPTCP sockets are AF_INET6 throughout and reach IPv4 peers by v4-mapped
// addresses: only then does the kernel allow IPv4 and IPv6 subflows on one
// connection. Plain TCP is the fallback everywhere: a kernel without MPTCP, a
// peer without it, a middlebox that strips or refuses it.
package mptcp

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Dialer opens connections; the zero value is ready. It is meant to be kept:
// it remembers the paths that do not let SYN data through. What it dials sends no
// keepalives until KeepMapped says so.
type Dialer struct {
	TCP bool // plain TCP from the start
	// Mutes has peers that answered MPTCP with plain TCP dialled with plain TCP
	// for ten minutes. Beside the option this spares the MPTCP layer over the
	// one TCP connection, which costs half of the throughput, and drops what
	// arrives while nobody reads (seen on 6.18). For the same reason their
	// receive buffers are left to the kernel.
	Mutes bool
	// Near has what is dialled reached without a line on the way, as servers are
	// from a converter: see CongestionControl.
	Near  bool
	Stats Stats

	syn  synMemory
	mute mutes
}

// Stats counts what became of dialled connections.
type Stats struct {
	MPTCP       atomic.Uint64 // both ends speak MPTCP
	TCP         atomic.Uint64 // MPTCP was asked for and not given
	Retried     atomic.Uint64 // refused, or fell back for its SYN data, and dialled anew
	SYNData     atomic.Uint64 // the data left in the SYN
	SYNDataLost atomic.Uint64 // it left, and the peer did not take it
}

// Conn is an established connection. It is read and written as a net.Conn is
// until it is detached.
type Conn struct {
	Remote netip.AddrPort // never v4-mapped
	Local  netip.AddrPort // of the first subflow, never v4-mapped
	MPTCP  bool           // false: plain TCP, asked for or fallen back to
	Fallen bool           // an MPTCP socket that has fallen back to TCP (RFC 8684 section 3.7)

	synDataLost bool
	descriptor
}

// Info is the state of an MPTCP connection (struct mptcp_info). Fields that
// the kernel does not know yet are zero.
type Info struct {
	Subflows       int    // beside the first
	SubflowsTotal  int    // with the first; kernel 6.1
	Fallback       bool   // runs as plain TCP
	Token          uint32 // identifies the connection to the path manager
	Retransmits    uint32
	BytesSent      uint64 // kernel 6.5, as all below
	BytesReceived  uint64
	BytesAcked     uint64
	BytesRetrans   uint64
	LastDataSent   time.Duration // since; kernel 6.10, as all below
	LastDataRecv   time.Duration
	LastAckRecv    time.Duration
	WriteSeq, Una  uint64 // data sequence numbers; the kernel holds what is between them
	ReceiveNextSeq uint64
}

// InFlight is how many bytes were given to subflows and are not acknowledged at the
// level of MPTCP. Before kernel 6.5 what waits for a subflow to take it counts, too.
func (in Info) InFlight() int {
	if in.BytesSent == 0 {
		return int(in.WriteSeq - in.Una)
	}
	return int(in.BytesSent - in.BytesAcked)
}

// Subflow is one TCP connection below an MPTCP connection.
type Subflow struct {
	Local, Remote netip.AddrPort // never v4-mapped
	TCPInfo
}

// TCPInfo is what braid reads of struct tcp_info. Times are durations, rates
// bytes a second. Fields that the kernel does not know are zero.
type TCPInfo struct {
	_              [0]func() // nobody compares them, which would take 1 kB of program
	State          TCPState
	Retransmits    int // of the segment in doubt
	Backoff        int
	Options        uint8 // TCPOptSACK and others
	SndWindowScale uint8
	RTO            time.Duration
	SndMSS         int
	RcvMSS         int           // as it is estimated
	Unacked        int           // segments
	Lost           int           // segments
	LastDataSent   time.Duration // since
	LastDataRecv   time.Duration
	LastAckRecv    time.Duration
	RTT, RTTVar    time.Duration
	MinRTT         time.Duration
	Cwnd           int // segments
	PacingRate     uint64
	DeliveryRate   uint64
	BytesAcked     uint64
	BytesReceived  uint64
	BytesSent      uint64
	BytesRetrans   uint64
	NotSent        int // bytes
	OutOfOrder     int // segments, received ahead of others so far; kernel 5.4
}

// TCPState is a state of the TCP state machine as tcp_info numbers them.
type TCPState uint8

// The states braid tells apart.
const (
	StateEstablished TCPState = 1
	StateSYNSent     TCPState = 2
	StateSYNRecv     TCPState = 3
	StateClose       TCPState = 7
)

// Bits of TCPInfo.Options (TCPI_OPT_*).
const (
	TCPOptSACK        = 2
	TCPOptWindowScale = 4
	TCPOptSYNData     = 32 // the peer took the SYN's data
)
