// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package connect asks TCP ports over one device whether they are there. A
// SYN+ACK is an answer. A RST is none, nor is an ICMP error: routers that have
// no way on refuse by them. Nothing is ever said on the connection.
package connect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes as IP packets of what one question and its answer take, for those who
// pay for them: a SYN, a SYN+ACK and the RST that ends it, with Linux's
// options at both ends. An ACK is not sent.
const (
	synLen, rstLen = 40, 32
	SYN4, SYN6     = 20 + synLen, 40 + synLen
	Size4          = 2*SYN4 + 20 + rstLen
	Size6          = 2*SYN6 + 40 + rstLen
)

// resent is when the kernel sends a second SYN (RFC 6298 section 2).
const resent = time.Second

// maxPending is how many questions may be open; one more and the oldest is
// withdrawn.
const maxPending = 16

// Conn asks over one device from one address. It is for one goroutine that
// sends and closes and one that receives.
type Conn struct {
	device  string
	source  netip.Addr
	answerC chan answer
	closedC chan struct{}
	asking  sync.WaitGroup

	pending []*os.File // a ring; those that are over are closed
	last    int        // index
}

type answer struct {
	seq  uint16
	from netip.Addr
}

// New makes a Conn, which opens a socket for each question.
func New(device string, source netip.Addr) *Conn {
	return &Conn{device: device, source: source, answerC: make(chan answer, maxPending), closedC: make(chan struct{}),
		pending: make([]*os.File, maxPending)}
}

// Send sends a SYN. The kernel sends one more after a second and gives up one
// or two seconds later; what is received for the second is no answer.
func (c *Conn) Send(to netip.AddrPort, seq uint16) error {
	start := time.Now()
	f, err := c.dial(to)
	if err != nil {
		return fmt.Errorf("probing %v over %s: %w", to, c.device, err)
	}
	c.last = (c.last + 1) % maxPending
	if oldest := c.pending[c.last]; oldest != nil {
		oldest.Close()
	}
	c.pending[c.last] = f
	c.asking.Go(func() {
		heard := answered(f, start)
		f.Close()
		if heard {
			select {
			case c.answerC <- answer{seq, to.Addr()}:
			case <-c.closedC:
			}
		}
	})
	return nil
}

// Receive waits for the next answer. After Close it returns net.ErrClosed.
func (c *Conn) Receive() (seq uint16, from netip.Addr, err error) {
	select {
	case a := <-c.answerC:
		return a.seq, a.from, nil
	case <-c.closedC:
		return 0, netip.Addr{}, net.ErrClosed
	}
}

// Close withdraws all questions and ends Receive.
func (c *Conn) Close() error {
	close(c.closedC)
	for _, f := range c.pending {
		if f != nil {
			f.Close()
		}
	}
	c.asking.Wait()
	return nil
}

// dial starts a connection of plain TCP.
func (c *Conn) dial(to netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET
	if c.source.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.BindToDevice(fd, c.device),
		// connect takes one port after the other then, and bind a random one: if
		// that of a question just withdrawn, the far side would take the SYN for
		// a part of the former connection.
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(c.source, 0))),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0), // or the SYN+ACK is acknowledged before the RST
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
	)
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "probe"), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// tcpInfo is the beginning of struct tcp_info (include/uapi/linux/tcp.h), as far as
// it is needed.
type tcpInfo struct {
	state   uint8
	_       [67]byte
	rtt     uint32 // microseconds
	_       [28]byte
	retrans uint32 // segments sent again
}

func (i *tcpInfo) read(fd uintptr) error {
	size := uint32(unsafe.Sizeof(*i))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(i)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// answered waits for the end of the handshake that began at start, and says
// whether the first SYN was answered.
func answered(f *os.File, start time.Time) bool {
	rc, err := f.SyscallConn()
	if err != nil {
		return false // withdrawn
	}
	const synSent, closed = 2, 7 // include/net/tcp_states.h
	var info tcpInfo
	var failed error
	err = rc.Write(func(fd uintptr) bool {
		failed = info.read(fd)
		return failed != nil || info.state != synSent
	})
	switch {
	case err != nil || failed != nil || info.state == closed:
		return false
	case info.retrans == 0:
		return true
	}
	// Which of two SYNs it answers only the timestamps tell. The kernel takes
	// the round trip from them then (RFC 7323 section 4), else from none.
	rtt := time.Duration(info.rtt) * time.Microsecond
	return time.Since(start)-rtt < resent/2
}
