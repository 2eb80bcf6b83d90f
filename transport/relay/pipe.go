// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// What comes by gigabits over TCP is moved by splice(2), through a pipe, which
// saves one of the two times that a byte is copied: TCP hands its pages over.
// MPTCP has nothing to hand over (up to 6.18): it would copy into pages that are
// made for it, which costs what is saved. Such a flow borrows a pipe for as long as
// bytes are in it.
const (
	// pipeSize is how many bytes a pipe takes if they fill their pages. A fragment
	// of a packet takes a page of it, which is why it is larger than a block.
	pipeSize = 512 << 10
	// mostPipes are those of a loop: all loops' together are less than a user may
	// have at that size (fs.pipe-user-pages-soft), and than the descriptors that a
	// program keeps back. Beyond them bytes are read and written.
	mostPipes = 8
	// stuck is how long nothing has been taken out of a pipe that is wanted by
	// others.
	stuck = time.Second
)

// pipe is one.
type pipe struct {
	in, out int
	bytes   int           // in it
	moved   time.Duration // when some were, by the loop's clock
}

// pipes are those of a loop.
type pipes struct {
	free  []*pipe
	lent  map[*flow]struct{}
	never bool // this kernel has no splice for these sockets
}

// borrow gives a flow a pipe, if there is one.
func (l *loop) borrow(f *flow) bool {
	s := &l.pipes
	if s.never {
		return false
	}
	if len(s.free) == 0 && len(s.lent) >= mostPipes && !l.reclaim(f.pair) {
		return false
	}
	if len(s.free) == 0 {
		p, err := newPipe()
		if err != nil {
			return false // there are too many files, or pipes
		}
		s.free = append(s.free, p)
	}
	n := len(s.free) - 1
	f.pipe, s.free = s.free[n], s.free[:n]
	if s.lent == nil {
		s.lent = make(map[*flow]struct{})
	}
	s.lent[f] = struct{}{}
	return true
}

// handBack takes a flow's pipe from it. What is in it is lost.
func (l *loop) handBack(f *flow) {
	p := f.pipe
	f.pipe = nil
	delete(l.pipes.lent, f)
	if p.bytes > 0 {
		p.close()
		return
	}
	l.pipes.free = append(l.pipes.free, p)
}

// reclaim takes a pipe for a pair from another's flow whose peer has stopped to read.
func (l *loop) reclaim(p *Pair) bool {
	for f := range l.pipes.lent {
		if f.pair == p || l.now-f.pipe.moved < stuck {
			continue
		}
		if err := f.drain(); err != nil {
			f.pair.end(err)
		}
		return true
	}
	return false
}

// closeFree closes the pipes that nobody has.
func (l *loop) closeFree() {
	for _, p := range l.pipes.free {
		p.close()
	}
	l.pipes.free = nil
}

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	// Refused to a user who has many: it stays as large as it is by default.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{out: fds[0], in: fds[1]}, nil
}

func (p *pipe) close() {
	call.Close(p.in)
	call.Close(p.out)
}

// splices says whether a flow's bytes are many enough for a pipe.
func (f *flow) splices() bool { return f.bulk && f.large && !f.from.mptcp && !f.from.fallen }

// fill moves what has arrived into a pipe. 0 is nothing that it could move.
func (f *flow) fill() (int, error) {
	l := f.pair.loop
	if !l.borrow(f) {
		return 0, nil
	}
	n, err := call.Splice(f.from.fd, f.pipe.in, pipeSize)
	f.reads++
	if n <= 0 {
		l.handBack(f)
		if l.pipes.never = l.pipes.never || refused(err); l.pipes.never || err == unix.EAGAIN {
			err = nil
		}
		return 0, os.NewSyscallError("splice", err)
	}
	f.pipe.bytes, f.pipe.moved = n, l.now
	f.piped += n
	f.large = n >= smallBlock
	f.got(n, n < lowMark)
	return n, nil
}

// empty moves what is in the flow's pipe on, as far as there is room, and gives
// back an empty one.
func (f *flow) empty() (int, error) {
	l := f.pair.loop
	n, err := call.Splice(f.pipe.out, f.to.fd, f.pipe.bytes)
	if refused(err) {
		l.pipes.never = true
		return 0, f.drain()
	}
	if n > 0 {
		f.pipe.bytes, f.pipe.moved = f.pipe.bytes-n, l.now
		if f.pipe.bytes == 0 {
			l.handBack(f)
		}
	}
	return n, err
}

// refused says that the kernel has no splice for a socket.
func refused(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP
}

// drain reads what is in a flow's pipe, which others get.
func (f *flow) drain() error {
	b := make([]byte, f.pipe.bytes)
	for n := 0; n < len(b); {
		m, err := call.Read(f.pipe.out, b[n:])
		if err != nil {
			return os.NewSyscallError("read", err) // which nobody takes for a lack of room
		}
		n += m
		f.pipe.bytes -= m
	}
	f.pair.loop.handBack(f)
	f.left = b
	return nil
}
