// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// A sender that is faster than what its bytes go on over fills the receive
// buffer, and the kernel makes that as large as it may be: it takes the rate of a
// relay's reads for the sender's (6.18: 33 MB where 66 Mbit/s went on). That is
// TCP's memory, of which a host has a sixteenth of its own: when it is short of it
// all its connections crawl. And what the sender sends next comes seconds later.
// So where more waits for room than goes on while the sender learns of some, the
// buffer grows no more until nothing waits, and nobody is woken for what comes. It
// does not become smaller: what is under way by then would be dropped.
const (
	lookEvery  = 50 * time.Millisecond
	lookWithin = 4 * time.Second
	soon       = time.Second
	timeAhead  = 200 * time.Millisecond // is above most round trips
	leastAhead = 512 << 10              // bytes
)

// buffer is what is known of the one that a flow is read from.
type buffer struct {
	full    bool          // more waits in it than has to
	starved uint8         // how often that has become nothing, and soon too much again
	emptied time.Duration // when it last has
	looked  time.Duration // when it was last looked at
	had     uint64        // count then
}

// look sees whether much waits in the buffer, after there was no room for it.
func (f *flow) look() {
	now, had := f.pair.loop.now, f.count.Load()
	passed, moved := now-f.looked, had-f.had
	if f.full || passed < lookEvery {
		return
	}
	f.looked, f.had = now, had
	if passed > lookWithin {
		return // what has moved since says little
	}
	ahead := leastAhead<<f.starved + int(int64(moved)*int64(timeAhead)/int64(passed))
	if n, err := call.Bytes(f.from.fd, unix.SIOCINQ); err == nil && n >= ahead {
		if now-f.emptied > soon {
			f.starved = 0
		}
		f.setFull(true)
	}
}

// drained notes that nothing waits in the buffer.
func (f *flow) drained() {
	if f.full {
		f.starved, f.emptied = min(f.starved+1, 8), f.pair.loop.now
		f.setFull(false)
	}
}

func (f *flow) setFull(full bool) {
	f.full = full
	i, events := 0, uint32(besides)
	if f == &f.pair.flows[1] {
		i = 1
	}
	if full {
		f.from.readable = true // much waits, and no event will tell
	} else {
		events |= unix.EPOLLIN
	}
	_ = f.pair.listen(i, unix.EPOLL_CTL_MOD, events) // it is listened to
	if f.from.mptcp || f.from.fallen {
		// The buffer of the one is fixed already. That of the other is as full as it
		// may be before the window is, and then drops what comes (6.18).
		return
	}
	if !full {
		_ = call.Set(f.from.fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)
		return
	}
	if size, err := unix.GetsockoptInt(f.from.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		_ = call.Set(f.from.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2) // which the kernel doubles
	}
}
