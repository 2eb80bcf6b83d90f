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
// to what goes on while the sender learns of room; and nobody is woken for them.
const (
	lookEvery  = 50 * time.Millisecond
	lookWithin = 4 * time.Second
	timeAhead  = 200 * time.Millisecond // is above most round trips
	leastAhead = 512 << 10              // bytes
)

// buffer is what is known of the one that a flow is read from.
type buffer struct {
	full         bool          // much waits in it, and nobody is woken for more
	size, before int           // in bytes of memory, and what it was; 0: it is the kernel's to tune
	starved      uint8         // how often it was too small
	looked       time.Duration // when it was last looked at
	had          uint64        // count then
}

// look sees whether much waits in the buffer, while there is no room for it.
func (f *flow) look() {
	now, had := f.pair.loop.now, f.count.Load()
	passed, moved := now-f.looked, int(had-f.had)
	if passed < lookEvery {
		return
	}
	f.looked, f.had = now, had
	if passed > lookWithin {
		return // what has moved since says little
	}
	ahead := leastAhead<<f.starved + int(int64(moved)*int64(timeAhead)/int64(passed))
	if n, err := count(f.from.fd, unix.SIOCINQ); err == nil && n >= ahead {
		f.setFull(true)
		f.trim(moved, 2*ahead)
	}
}

// setFull has the loop not be woken, or be woken, by what comes.
func (f *flow) setFull(full bool) {
	if full == f.full {
		return
	}
	f.full = full
	i, events := 0, uint32(besides)
	if f == &f.pair.flows[1] {
		i = 1
	}
	if !full {
		events |= unix.EPOLLIN
	}
	_ = f.pair.listen(i, unix.EPOLL_CTL_MOD, events) // it is listened to
}

// trim makes the buffer smaller, down to a size. It does not take all of what has
// become free, so that there is room for what is under way. One of MPTCP is fixed.
func (f *flow) trim(freed, least int) {
	if f.from.mptcp {
		return
	}
	if f.size == 0 {
		f.before, _ = unix.GetsockoptInt(f.from.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		f.size = f.before
	}
	if size := max(f.size-freed*3/4, least); size <= f.size {
		f.size = size
		setNow(f.from.fd, unix.SO_RCVBUFFORCE, int32(size/2)) // which the kernel doubles
	}
}

// drained notes that nothing waits in the buffer any more, and gives it back to the
// kernel: if it was smaller, it was too small.
func (f *flow) drained() {
	f.setFull(false)
	if f.size == 0 {
		return
	}
	setNow(f.from.fd, unix.SO_RCVBUFFORCE, int32(f.before/2))
	setNow(f.from.fd, unix.SO_BUF_LOCK, 0) // MPTCP has none
	f.size = 0
	f.starved = min(f.starved+1, 8)
}
