// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// A reader starts with small buffers, which are enough for interactive
// traffic, and takes large ones while they come back full: at gigabits a
// second the number of system calls decides.
const (
	smallBuffer = 16 << 10
	largeBuffer = 256 << 10
)

var (
	small = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	large = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// reader reads from a connection into a buffer that is borrowed only once
// there is something to read.
type reader struct {
	rc   syscall.RawConn
	bulk bool // the last read filled its buffer
	buf  []byte
	pool *sync.Pool
	item any // what goes back to the pool
}

func newReader(c *net.TCPConn) (*reader, error) {
	rc, err := c.SyscallConn()
	return &reader{rc: rc}, err
}

// next waits for data; the answer is valid until release. At the end of the
// stream it returns io.EOF.
func (r *reader) next() ([]byte, error) {
	var n int
	var failed error
	err := r.rc.Read(func(fd uintptr) bool {
		r.borrow()
		n, failed = ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), r.buf) })
		if failed == syscall.EAGAIN {
			r.release()
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case failed != nil:
		return nil, os.NewSyscallError("read", failed)
	case n == 0:
		return nil, io.EOF
	}
	r.bulk = n >= len(r.buf) || r.bulk && n >= smallBuffer
	return r.buf[:n], nil
}

func (r *reader) borrow() {
	if r.bulk {
		b := large.Get().(*[largeBuffer]byte)
		r.pool, r.item, r.buf = &large, b, b[:]
		return
	}
	b := small.Get().(*[smallBuffer]byte)
	r.pool, r.item, r.buf = &small, b, b[:]
}

// release gives the buffer back; it may be called without one.
func (r *reader) release() {
	if r.pool != nil {
		r.pool.Put(r.item)
		r.pool, r.item, r.buf = nil, nil, nil
	}
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != syscall.EINTR {
			return n, err
		}
	}
}
