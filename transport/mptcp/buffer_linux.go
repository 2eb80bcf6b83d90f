// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// SetSendBuffer bounds what the connection and each of its subflows may hold
// that the peer has not acknowledged, in bytes of memory: overhead counts. It
// ends the kernel's own tuning of the buffer for good. Where the right to
// exceed net.core.wmem_max is missing, that is the most.
func (c *Conn) SetSendBuffer(bytes int) error {
	return c.control(func(fd int) error {
		half := bytes / 2 // the kernel doubles what it is given
		if call.Set(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, half) == nil {
			return nil
		}
		return call.Set(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, half)
	})
}

// SendBuffer reads the bound, in bytes of memory.
func (c *Conn) SendBuffer() (int, error) {
	var n int
	err := c.control(func(fd int) (err error) {
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		return err
	})
	return n, err
}

// receiveBuffer, which the kernel doubles, holds all that a peer with the
// default of net.ipv4.tcp_wmem has under way; on hosts with little memory less,
// 1 MiB of 64: the buffers of hosts on the LAN that have stopped to read fill.
var receiveBuffer = sync.OnceValue(func() int {
	const most = 4 << 20
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return most
	}
	return int(min(uint64(host.Totalram)*uint64(host.Unit)/64, most))
})

// fixReceiveBuffer keeps the kernel from tuning the size itself. While it does,
// a peer that sends over several subflows runs past the window; what is beyond
// it is dropped after the subflow has acknowledged it, and comes again only at
// the pace of MPTCP's own timer (6.18: every third download over two lines, at
// a tenth of the rate; MPTcpExtNoDSSInWindow counts). Without CAP_NET_ADMIN
// only a far too small size could be had, so it stays as it is.
func fixReceiveBuffer(fd, size int) {
	_ = call.Set(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
}

// Memory is what the receive buffers of accepted connections may take together.
// The zero value gives none.
type Memory struct {
	left atomic.Int64
}

const (
	// leastBuffer is below what the kernel would come to by itself.
	leastBuffer = 256 << 10
	// commonBuffer, which the kernel doubles, is net.ipv4.tcp_rmem's default.
	commonBuffer = 64 << 10
)

// NewMemory makes one of half of what TCP may have on this host.
func NewMemory() *Memory {
	m := new(Memory)
	m.left.Store(tcpMemory() / 2)
	return m
}

// tcpMemory is the last value of net.ipv4.tcp_mem, in bytes; in a network
// namespace that does not have it, what the kernel's rule comes to.
func tcpMemory() int64 {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if f := strings.Fields(string(b)); err == nil && len(f) == 3 {
		if pages, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			return pages * int64(os.Getpagesize())
		}
	}
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return 0
	}
	return int64(host.Totalram) * int64(host.Unit) * 3 / 32
}

// strangerBuffer, which the kernel doubles, is what is received of a connection
// of which it is not known whose it is: a request, and what a client sends right
// behind it.
const strangerBuffer = 16 << 10

// Confine has a connection take no more than 32 KiB of what its peer sends and
// nobody reads, which otherwise is 128 KiB and, behind a gap in the data, never
// is read. Give lets a client out. Without CAP_NET_ADMIN, without which it could
// not be let out, nothing happens.
//
// It is not done while a connection that was accepted by TCP Fast Open waits for
// its third ACK: the kernel takes the window's limit from the buffer then, and
// never raises it again (6.18: 20 kB, 2.7 Mbit/s at 60 ms). Of such a peer
// nothing is taken but what its SYN had. The error is ErrCrowding where more has
// been taken already.
func (c *Conn) Confine() (done bool, err error) {
	var ti TCPInfo
	err = c.control(func(fd int) (err error) {
		ti, err = tcpInfo(fd)
		if done = err == nil && ti.State != StateSYNRecv; done {
			fixReceiveBuffer(fd, strangerBuffer)
		}
		return err
	})
	switch {
	case err != nil: // it has gone
		return true, nil
	case int(ti.BytesReceived)+ti.OutOfOrder*ti.RcvMSS > 2*strangerBuffer:
		return done, ErrCrowding
	}
	return done, nil
}

// ErrCrowding is that a connection of which it is not known whose it is has sent
// more than it may.
var ErrCrowding = errors.New("more has been sent than there is room for")

// Confined is how many confined connections take an eighth of what TCP may have
// on this host.
func Confined() int { return int(tcpMemory() / 8 / (2 * strangerBuffer)) }

// Give fixes the receive buffer of an accepted connection, of whom it is known
// who it is: until then it is confined. Each takes a part of what is left, so
// that it never runs out; where that is too little, it gets what the kernel
// gives to everybody. Return gives back what Give has returned.
func (m *Memory) Give(c *Conn) (bytes int64) {
	const share = 64 // of what is left, to each
	size := min(int64(receiveBuffer()), m.left.Load()/share/2)
	if !c.MPTCP || size < leastBuffer {
		_ = c.control(func(fd int) error {
			fixReceiveBuffer(fd, commonBuffer)
			if !c.MPTCP { // MPTCP has no such option
				_ = call.Set(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)
			}
			return nil
		})
		return 0
	}
	_ = c.control(func(fd int) error {
		fixReceiveBuffer(fd, int(size))
		return nil
	})
	m.left.Add(-2 * size) // the kernel doubles it
	return 2 * size
}

// Return gives memory back.
func (m *Memory) Return(bytes int64) { m.left.Add(bytes) }
