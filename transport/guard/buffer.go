// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"

	"braid/transport/mptcp"
)

const (
	// bdps is how many bandwidth-delay products of all its paths a connection
	// may hold. Less starves the paths, more has to be sent again at the death
	// of one.
	bdps = 2.5
	// breath is the least time whose worth a connection may hold of each path:
	// on short ones it is the programs at both ends that take their time.
	breath = 25 * time.Millisecond
	// overhead is what a byte of payload takes of the buffer's memory.
	overheadNum, overheadDen = 5, 4
	// smallest and largest bound, in bytes of memory; beyond the largest the
	// kernel's own tuning is as good. The initial one leaves room to find out
	// what the paths carry.
	smallest = 128 << 10
	largest  = 4 << 20
	initial  = 1 << 20
	// waiting is how much room a byte that waits is given. A writer is woken
	// when no more than two thirds of the buffer are taken (__sk_stream_is_writeable):
	// with half as much again it is as if nothing waited.
	waitingNum, waitingDen = 3, 2
	// fade is the time in which room that is no longer needed falls to a third.
	fade = 500 * time.Millisecond
	// roomiest is the largest buffer with that room, in bytes of memory.
	roomiest = 2 * largest
	// horizon is how far back rates and round trips are looked for.
	horizon = 10 * time.Second
)

// buffer is the bound of one connection's send buffer.
type buffer struct {
	set     int       // 0: the kernel tunes
	queues  int       // how much of it is for what is queued on the paths
	lower   time.Time // queues, not before
	waiting int       // bytes that there is room for
	at      time.Time // of the last look
}

// size says how large the send buffer ought to be, and whether that is worth a
// change; inFlight is what its paths were given and is not acknowledged at the level of
// MPTCP, in bytes.
//
// It bounds what is queued on the paths. What has arrived but waits for
// something that is late on another path takes room of the buffer too, and
// would be at the expense of the paths that are not late; it gets room of its
// own. Nothing of it is lost with a path.
func (w *Ward) size(flows []mptcp.Subflow, inFlight int, now time.Time) (bytes int, change bool) {
	var sum float64 // bytes
	queued := 0
	for _, f := range flows {
		s := w.flows[pair{f.Local, f.Remote}]
		if f.RTT > 0 {
			s.rtt.add(now, float64(f.RTT))
		}
		s.rate.add(now, float64(f.DeliveryRate))
		sum += s.rate.value() * max(bdps*s.rtt.value(), float64(breath)) / float64(time.Second)
		queued += f.Unacked*f.SndMSS + f.NotSent
	}
	want := min(max(memory(int(min(sum, largest))), smallest), largest)
	switch {
	case w.set == 0 && want == largest:
		return 0, false
	case w.set == 0:
		w.queues, w.lower = max(want, initial), now.Add(slowTick)
	case want > w.queues*11/10: // room is given at once
		w.queues, w.lower = want, now.Add(slowTick)
	case want < w.queues*9/10 && now.After(w.lower): // and taken slowly
		w.queues, w.lower = max(want, w.queues*8/10), now.Add(slowTick)
	}
	w.wait(max(inFlight-queued, 0), memory(queued) > w.queues, now)
	size := min(w.queues+memory(w.waiting)*waitingNum/waitingDen, roomiest)
	return size, size > w.set*21/20 || size < w.set*19/20
}

// wait gives bytes that wait their room at once. Room that they leave stays theirs: where
// some are lost now and then, others wait again and again. But if what is queued on
// the paths spreads there, it fades.
func (w *Ward) wait(bytes int, spread bool, now time.Time) {
	switch {
	case bytes >= w.waiting:
		w.waiting = bytes
	case spread:
		w.waiting -= int(int64(w.waiting-bytes) * int64(min(now.Sub(w.at), fade)) / int64(fade))
	}
	w.at = now
}

// memory is what bytes of payload take of the buffer.
func memory(payload int) int { return payload * overheadNum / overheadDen }

// maximum and minimum are those of the last horizon, in two halves: cheap, and
// exact enough.
type maximum struct{ extreme }
type minimum struct{ extreme }

type extreme struct {
	old, cur float64
	turn     time.Time
}

func (m *maximum) add(now time.Time, v float64) {
	m.roll(now, v)
	m.cur = max(m.cur, v)
}

func (m *maximum) value() float64 { return max(m.old, m.cur) }

func (m *minimum) add(now time.Time, v float64) {
	m.roll(now, v)
	m.cur = min(m.cur, v)
}

func (m *minimum) value() float64 { return min(m.old, m.cur) }

func (e *extreme) roll(now time.Time, v float64) {
	switch {
	case e.turn.IsZero():
		e.old, e.cur, e.turn = v, v, now
	case now.Sub(e.turn) > horizon/2:
		e.old, e.cur, e.turn = e.cur, v, now
	}
}
