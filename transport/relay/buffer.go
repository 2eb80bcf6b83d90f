// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// A sender that is faster than what its bytes go on over fills the receive
// buffer, and the kernel makes that as large as it may be: it takes the rate of a
// relay's reads for the sender's (6.18: 33 MB where 66 Mbit/s went on). That is
// TCP's memory, of which a host has a sixteenth of its own: when it is short of it
// all its connections crawl. And what the sender sends next comes seconds later.
// So while bytes wait for room, those that may wait behind them become fewer, down
// to what goes on while the sender learns of room.
const (
	trimEvery = 50 * time.Millisecond
	trimAhead = 200 * time.Millisecond // is above most round trips
	trimLeast = 512 << 10              // bytes
)

// buffer is what is known of the one that a flow is read from.
type buffer struct {
	size, before int           // in bytes of memory, and what it was; 0: it is the kernel's to tune
	starved      uint8         // how often it was too small
	trimmed      time.Duration // when it was last looked at
	had          uint64        // count then
}

// trim makes the buffer smaller. It does not take all of what has become free, so
// that there is room for what is under way.
func (f *flow) trim() {
	now, had := f.pair.loop.now, f.count.Load()
	passed, moved := now-f.trimmed, int(had-f.had)
	if f.from.mptcp || passed < trimEvery {
		return
	}
	f.trimmed, f.had = now, had
	if passed > time.Second {
		return // what has moved since says little
	}
	ahead := trimLeast<<f.starved + int(int64(moved)*int64(trimAhead)/int64(passed))
	if n, err := waiting(f.from.fd); err != nil || n < ahead {
		return
	}
	if f.size == 0 {
		f.before, _ = unix.GetsockoptInt(f.from.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		f.size = f.before
	}
	if size := max(f.size-moved*3/4, 2*ahead); size <= f.size {
		f.size = size
		f.resize(size)
	}
}

// restore gives the buffer back to the kernel: it is empty, and was too small.
func (f *flow) restore() {
	if f.size == 0 {
		return
	}
	f.resize(f.before)
	setNow(f.from.fd, unix.SO_BUF_LOCK, 0) // MPTCP has none
	f.size = 0
	f.starved = min(f.starved+1, 8)
}

// resize has the kernel keep the buffer at a size, which it doubles.
func (f *flow) resize(size int) {
	setNow(f.from.fd, unix.SO_RCVBUFFORCE, int32(size/2))
}
