// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

const protoMPTCP = unix.IPPROTO_MPTCP

// Dial connects to a peer, from source if that is valid, else from whatever
// address the routing table gives. data, if any, is delivered first: in the
// SYN where TCP Fast Open allows it (RFC 7413; net.ipv4.tcp_fastopen bit
// 0x1), else right after the handshake. As RFC 7413 has it, data may arrive
// twice, on two connections of which one is closed at once.
//
// A peer that refuses an MPTCP handshake is tried once more with plain TCP
// and no SYN data, because some middleboxes answer an option they do not know
// with a reset. A connection that fell back to TCP because its SYN data was
// not taken (a cookie of old, seen on 6.18) is dialled once more without.
//
// Errors wrap the system's: ECONNREFUSED, ENETUNREACH, EHOSTUNREACH,
// ETIMEDOUT, EADDRNOTAVAIL, or the context's, which is asked for its deadline, and
// each quarter of a second whether it has ended.
func (d *Dialer) Dial(ctx context.Context, source netip.Addr, peer netip.AddrPort, data []byte) (*Conn, error) {
	return d.DialClass(ctx, 0, source, peer, data)
}

// DialClass is Dial with a traffic class for what is sent, from the first SYN on
// and on all subflows; not on those over IPv6, where MPTCP has none.
func (d *Dialer) DialClass(ctx context.Context, class uint8, source netip.Addr, peer netip.AddrPort, data []byte) (*Conn, error) {
	return d.DialEach(ctx, class, source, peer, func() ([]byte, error) { return data, nil })
}

// DialEach is DialClass with data of its own for each connection that is tried,
// for what holds once. The last data made is the one that the peer gets.
func (d *Dialer) DialEach(ctx context.Context, class uint8, source netip.Addr, peer netip.AddrPort, data func() ([]byte, error)) (*Conn, error) {
	dial := func(mptcp, synData bool) (*Conn, error) {
		b, err := data()
		if err != nil {
			return nil, err
		}
		return d.dial(ctx, attempt{source, peer, b, class, mptcp, synData})
	}
	tcp := d.TCP || d.Mutes && d.mute.has(peer)
	c, err := dial(!tcp, d.syn.allows(source, peer.Addr()))
	switch {
	case err == nil && c.synDataLost && !c.MPTCP && !tcp:
		c.Close()
		d.Stats.Retried.Add(1)
		c, err = dial(true, false)
	case !tcp && (errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET)):
		d.Stats.Retried.Add(1)
		c, err = dial(false, false)
	}
	if err != nil {
		return nil, fmt.Errorf("dialling %v: %w", peer, err)
	}
	switch {
	case c.MPTCP:
		d.Stats.MPTCP.Add(1)
	case !d.TCP:
		d.Stats.TCP.Add(1)
		if d.Mutes && !tcp {
			d.mute.learn(peer)
		}
	}
	return c, nil
}

// attempt is one handshake.
type attempt struct {
	source  netip.Addr
	peer    netip.AddrPort
	data    []byte
	class   uint8
	mptcp   bool
	synData bool
}

func (d *Dialer) dial(ctx context.Context, a attempt) (*Conn, error) {
	c, sent, err := d.connect(ctx, a)
	if err != nil {
		return nil, err
	}
	if rest := a.data[sent:]; len(rest) > 0 {
		if err := c.writeFirst(ctx, rest); err != nil {
			c.Close()
			return nil, fmt.Errorf("writing first data: %w", err)
		}
	}
	return c, nil
}

// connect does what package net cannot, MPTCP from an AF_INET6 socket to an IPv4
// address, and data in the SYN, of which it says how much was sent; and the rest in
// half of its allocations.
func (d *Dialer) connect(ctx context.Context, a attempt) (c *Conn, sent int, err error) {
	fd, family, err := socket(a.mptcp, a.peer.Addr())
	if err != nil {
		return nil, 0, fmt.Errorf("opening socket: %w", err)
	}
	sent, err = d.begin(fd, family, a)
	// Hands the socket to the runtime's poller. From a file package net would make
	// a connection by a second descriptor, and fourteen system calls.
	f := os.NewFile(uintptr(fd), "tcp")
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	ti, err := established(ctx, f)
	if err != nil {
		abort(fd) // it may have been established meanwhile
		f.Close()
		if sent > 0 && ti.State != StateEstablished && (ctx.Err() != nil || errors.Is(err, unix.ETIMEDOUT)) {
			d.syn.learn(a.source, a.peer.Addr(), false) // no answer, perhaps for its data
		}
		return nil, 0, err
	}
	c = &Conn{Remote: netip.AddrPortFrom(a.peer.Addr().Unmap(), a.peer.Port()), MPTCP: a.mptcp && speaksMPTCP(fd)}
	c.Fallen = a.mptcp && !c.MPTCP && isMPTCP(fd)
	c.fd, c.stream = fd, f
	c.Local, _ = localAddr(fd)
	if sent > 0 {
		d.synDataSent(c, a, ti)
	}
	return c, sent, nil
}

// begin starts a handshake on a new socket.
func (d *Dialer) begin(fd, family int, a attempt) (sent int, err error) {
	if err := d.prepare(fd, a); err != nil {
		return 0, err
	}
	_ = call.Set(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if a.source.IsValid() {
		var b [sockaddrSize / 2]byte
		if err := call.Bind(fd, sockaddr(&b, netip.AddrPortFrom(a.source, 0), family)); err != nil {
			return 0, fmt.Errorf("binding to %v: %w", a.source, err)
		}
	}
	if a.mptcp && !d.Mutes {
		fixReceiveBuffer(fd, receiveBuffer())
	}
	return start(fd, family, a)
}

// synDataSent learns what became of the SYN's data. The kernel sends it again
// by itself when the peer did not take it.
func (d *Dialer) synDataSent(c *Conn, a attempt, ti TCPInfo) {
	d.Stats.SYNData.Add(1)
	if ti.Options&TCPOptSYNData == 0 {
		c.synDataLost = true
		d.Stats.SYNDataLost.Add(1)
	}
	d.syn.learn(a.source, a.peer.Addr(), !c.synDataLost)
}

// socket opens a non-blocking socket, MPTCP if asked for and possible, of the
// widest family that reaches the peer.
func socket(mptcp bool, peer netip.Addr) (fd, family int, err error) {
	proto := unix.IPPROTO_TCP
	if mptcp {
		proto = protoMPTCP
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	family = unix.AF_INET6
	fd, err = unix.Socket(family, kind, proto)
	if errors.Is(err, unix.EAFNOSUPPORT) && peer.Unmap().Is4() {
		family = unix.AF_INET
		fd, err = unix.Socket(family, kind, proto)
	}
	if err == nil && family == unix.AF_INET6 && peer.Unmap().Is4() && strict() {
		_ = call.Set(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if mptcp && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT)) {
		return socket(false, peer)
	}
	return fd, family, err
}

// strict says whether an AF_INET6 socket is not for IPv4 unless it is said.
var strict = sync.OnceValue(func() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/bindv6only")
	return err == nil && strings.TrimSpace(string(b)) == "1"
})

// prepare sets what a socket has to have before its handshake.
func (d *Dialer) prepare(fd int, a attempt) error {
	if a.class != 0 {
		if err := setClass(fd, a.class); err != nil {
			return fmt.Errorf("setting the traffic class: %w", err)
		}
	}
	// A byte of urgent data stays in its place. (MPTCP has none, and no option.)
	_ = call.Set(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	if d.Near {
		near(fd)
	} else {
		lines(fd)
	}
	if a.source.IsValid() {
		// Leaves the port to connect, which knows the peer: without it bind would
		// take one of 28,000 ports for every connection. MPTCP knows it from 6.8.
		_ = call.Set(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	return nil
}

// start starts the handshake and says how much of the data the SYN took.
func start(fd, family int, a attempt) (sent int, err error) {
	var b [sockaddrSize / 2]byte
	to := sockaddr(&b, a.peer, family)
	if a.synData && len(a.data) > 0 {
		sent, err = call.Send(fd, a.data, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, to)
		switch {
		case errors.Is(err, unix.EINPROGRESS): // no cookie yet: the SYN asks for one
			return 0, nil
		case !errors.Is(err, unix.EOPNOTSUPP): // else switched off by sysctl
			return max(sent, 0), err
		}
	}
	if err = call.Connect(fd, to); errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	return 0, err
}

// writeFirst writes what was not in the SYN, which waits where the system is short
// of memory for TCP.
func (c *Conn) writeFirst(ctx context.Context, b []byte) error {
	return within(ctx, c.SetWriteDeadline, func() error {
		n, err := c.Write(b)
		b = b[n:]
		return err
	})
}

// handshake is what is known of one.
type handshake struct {
	ti  TCPInfo
	err error
}

// established waits for the end of the handshake.
func established(ctx context.Context, f *os.File) (TCPInfo, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return TCPInfo{}, fmt.Errorf("adopting socket: %w", err)
	}
	h := new(handshake)
	look := h.look
	if err := within(ctx, f.SetWriteDeadline, func() error { return rc.Write(look) }); err != nil {
		return h.ti, err
	}
	return h.ti, h.err
}

// look says whether the handshake has ended.
func (h *handshake) look(fd uintptr) bool {
	if h.ti, h.err = tcpInfo(int(fd)); h.err == nil && (h.ti.State == StateEstablished || h.ti.State == StateSYNSent) {
		return h.ti.State == StateEstablished
	}
	if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		h.err = unix.Errno(n)
	}
	return true
}

// within does what may take time until it is done or ctx has ended; do goes on
// where a deadline that setDeadline has set has ended it. Nobody has to wake it
// when ctx ends, which takes goroutines and timers, and hardly ever happens.
func within(ctx context.Context, setDeadline func(time.Time) error, do func() error) error {
	const glance = 250 * time.Millisecond
	for ctx.Err() == nil {
		until := time.Now().Add(glance)
		last, bound := ctx.Deadline()
		if bound = bound && last.Before(until); bound {
			until = last
		}
		setDeadline(until)
		err := do()
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil {
				setDeadline(time.Time{})
				return err
			}
		case bound:
			time.Sleep(time.Millisecond) // its timer comes a little later than ours
		}
	}
	return context.Cause(ctx)
}

// speaksMPTCP says whether the connection of an MPTCP socket has not fallen back
// to TCP. A kernel before 5.16 does not tell.
func speaksMPTCP(fd int) bool {
	var b [16]byte
	if _, err := call.Get(fd, solMPTCP, optInfo, b[:]); err == nil || tellsFallback() {
		return err == nil
	}
	return isMPTCP(fd)
}

// isMPTCP says whether a socket is one of MPTCP, be its connection what it may.
func isMPTCP(fd int) bool {
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && proto == protoMPTCP
}

var tellsFallback = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protoMPTCP)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	var b [16]byte
	_, err = call.Get(fd, solMPTCP, optInfo, b[:])
	return err == nil
})

// sockaddr makes an address the system's, of a family.
func sockaddr(b *[sockaddrSize / 2]byte, ap netip.AddrPort, family int) []byte {
	binary.NativeEndian.PutUint16(b[:], uint16(family))
	binary.BigEndian.PutUint16(b[2:], ap.Port())
	if family == unix.AF_INET {
		a := ap.Addr().Unmap().As4()
		copy(b[4:], a[:])
		return b[:unix.SizeofSockaddrInet4]
	}
	a := ap.Addr().As16()
	copy(b[8:], a[:])
	return b[:unix.SizeofSockaddrInet6]
}
