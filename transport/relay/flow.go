// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// turn is how many bytes a flow may move before others have theirs.
const turn = 1 << 20

// end is one of a pair's sockets.
type end struct {
	fd                 int
	mptcp              bool
	fallen             bool // an MPTCP socket, of a connection that has fallen back to TCP
	readable, writable bool // as far as it is known
	gone               bool // it has been reset, and nobody reads it any more
}

// flow is one direction of a pair.
type flow struct {
	pair     *Pair
	from, to *end
	count    *atomic.Uint64 // bytes written
	sum      *atomic.Uint64 // of other pairs as well; nil: nobody wants it

	left   []byte        // has been read and not been written
	block  []byte        // what left is a part of, if it is the loop's
	pipe   *pipe         // has what has been read instead; nil: none does
	held   time.Duration // what has been read is not to be written before
	waited bool          // for room
	pace
	buffer

	ended  bool // nothing more is to be read
	closed bool // and the peer knows
}

// step moves bytes until there are none, or there is no room.
func (f *flow) step() error {
	l := f.pair.loop
	for n := 0; n < turn; {
		if f.loaded() {
			if f.held > l.now {
				return nil
			}
			if done, err := f.write(); err != nil || !done {
				return err
			}
		}
		if f.ended {
			return f.close()
		}
		if !f.from.readable {
			return nil
		}
		got, err := f.read()
		if err != nil {
			return err
		}
		n += got
	}
	l.again(f.pair)
	return nil
}

// loaded says that something has been read that has not been written.
func (f *flow) loaded() bool { return len(f.left) > 0 || f.pipe != nil }

// read reads what has arrived, if anything has.
func (f *flow) read() (n int, err error) {
	if f.splices() {
		if n, err := f.fill(); n > 0 || err != nil {
			return n, err
		}
		// There is nothing, or what splice(2) does not tell: the end, an urgent byte.
	}
	l := f.pair.loop
	b := l.take(f.large)
	n, err = call.Read(f.from.fd, b)
	f.reads++
	if n <= 0 {
		l.give(b)
	}
	switch {
	case err == unix.EAGAIN:
		f.from.readable = false
		f.noteRead(0, true)
		f.drained()
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		f.ended, f.pair.halfClosed = true, true
		f.pair.moved()
		l.expect(f.pair.remaining())
		return 0, nil
	}
	f.left, f.block = b[:n], b
	f.large = n == len(b) || f.large && n >= smallBlock
	f.got(n, n < len(b))
	if n < len(b) {
		f.drained()
	}
	return n, nil
}

// got notes bytes that have been read; short: there were no more.
func (f *flow) got(n int, short bool) {
	l := f.pair.loop
	f.pair.moved()
	if f.pair.Owner != nil {
		if d := f.pair.Owner.Pace(n); d > 0 {
			f.held = l.now + d
			l.hold(f)
		}
	}
	f.noteRead(n, short)
}

// write writes what has been read, as far as there is room.
func (f *flow) write() (done bool, err error) {
	for some := false; f.loaded(); {
		if !f.to.writable {
			return false, nil
		}
		if f.waited {
			f.waited = false
			f.look()
		}
		n, err := f.put()
		if err == unix.EAGAIN {
			if some {
				f.awaitRoom()
			} else {
				f.noRoom()
			}
			return false, nil
		}
		if err != nil {
			return false, os.NewSyscallError("write", err)
		}
		f.count.Add(uint64(n))
		if f.sum != nil {
			f.sum.Add(uint64(n))
		}
		f.pair.moved()
		// Write would have taken more. Splice is cut short by a signal, too.
		if some = some || n > 0; n > 0 && f.pipe == nil && f.loaded() {
			f.awaitRoom()
			return false, nil
		}
	}
	f.drop()
	return true, nil
}

// retryWrite is when a write without room is tried again although nobody has
// told of any. Where an MPTCP socket has no room because the system is short of
// memory, and nothing is queued in it, the kernel never does (seen with 6.18;
// TCP's own sendmsg takes care of that, tcp_sendmsg_locked).
const retryWrite = time.Second

// retryEmpty is when it is tried again if nothing is queued.
const retryEmpty = 10 * time.Millisecond

// noRoom has what is left wait for room, where nothing of it was taken.
func (f *flow) noRoom() {
	if n, err := call.Bytes(f.to.fd, unix.SIOCOUTQ); err == nil && n == 0 {
		l := f.pair.loop
		f.held = l.now + retryEmpty
		l.hold(f)
		return
	}
	f.awaitRoom()
}

// awaitRoom has what is left wait until the kernel tells of room.
func (f *flow) awaitRoom() {
	f.to.writable, f.waited = false, true
	f.pair.loop.expect(retryWrite)
}

// retry has what waits for room tried again.
func (f *flow) retry() {
	if f.loaded() && !f.to.writable {
		f.to.writable = true
		f.pair.loop.again(f.pair)
	}
}

// put writes once.
func (f *flow) put() (int, error) {
	if f.pipe != nil {
		return f.empty()
	}
	n, err := call.Write(f.to.fd, f.left)
	f.left = f.left[max(n, 0):]
	return n, err
}

// drop gives back what is left, and what it is in.
func (f *flow) drop() {
	l := f.pair.loop
	if f.block != nil {
		l.give(f.block)
	}
	f.left, f.block = nil, nil
	if f.pipe != nil {
		l.handBack(f)
	}
}

// close tells the peer that nothing more will come; where nothing comes from it
// either, the end of the pair does.
func (f *flow) close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	if f.pair.flows[0].closed && f.pair.flows[1].closed {
		return nil
	}
	return os.NewSyscallError("shutdown", call.Shutdown(f.to.fd, unix.SHUT_WR))
}
