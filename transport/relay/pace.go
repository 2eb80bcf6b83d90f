// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
)

// A packet that is moved on its own costs waking up for it, two system calls,
// and often a packet each for the peer and its acknowledgement. So what comes in
// bulk is fetched once in a tick, or when there is much of it, and the socket is
// told to wake nobody before (SO_RCVLOWAT, which MPTCP has from 6.10 on; before,
// it wakes for each packet as ever). A tick is the most that anything is late by.
const (
	bulkTick = time.Millisecond
	lowMark  = 256 << 10 // bytes
	// A flow is in bulk from enter bytes in a span on, 16 Mbit/s, and until it has
	// less than stay.
	span  = 8 * time.Millisecond
	enter = 16 << 10
	stay  = 4 << 10
)

// pace is how a flow reads.
type pace struct {
	large bool          // by large blocks
	bulk  bool          // once in a tick
	since time.Duration // the span's begin
	bytes int           // in it
	reads int           // system calls, since the start
	piped int           // bytes that went through a pipe, since the start
}

// noteRead notes bytes that have been read; short: there were no more.
func (f *flow) noteRead(n int, short bool) {
	now := f.pair.loop.now
	f.bytes += n
	if passed := now - f.since; passed >= span {
		least := enter
		if f.bulk {
			least = stay
		}
		bulk := int64(f.bytes) >= int64(least)*int64(passed)/int64(span)
		f.since, f.bytes = now, 0
		f.setBulk(bulk)
	}
	if f.bulk && short { // what comes meanwhile is seen at the tick
		f.from.readable = false
	}
}

func (f *flow) setBulk(on bool) {
	if on == f.bulk {
		return
	}
	f.bulk = on
	mark := 1
	if on {
		mark = lowMark
		f.pair.loop.bulk[f] = struct{}{}
	} else {
		delete(f.pair.loop.bulk, f)
		f.from.readable = true // what is below the mark has woken nobody
	}
	// Where it cannot be had, what arrives wakes us as without.
	_ = call.Set(f.from.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, mark)
}

// listens says whether a flow in bulk is to be looked at.
func (f *flow) listens() bool { return !f.loaded() && !f.ended }
