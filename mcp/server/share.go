// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/heap"
	"sync"
	"time"
)

// share divides what the host's line carries among the clients that want more
// than there is: each gets the same, however many connections it has, and who
// wants less does not wait. It is a fluid server of all clients at a time
// (Parekh and Gallager, "A Generalized Processor Sharing Approach to Flow
// Control", 1993), whose virtual time is the bytes that each busy client has
// had: a client's bytes go when they would begin to be served. The zero value has
// no limit.
type share struct {
	mu      sync.Mutex
	rate    float64 // bytes a second; 0: no limit
	virtual float64
	last    time.Time // of virtual
	busy    byFinish
}

// set changes the limit.
func (s *share) set(rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advanceLocked(time.Now())
	s.rate = rate
}

// hold is how long to hold back n bytes of a client's. A client that others join
// or leave afterwards has waited too short or too long, which the next bytes make
// up for.
func (s *share) hold(a *account, n int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdLocked(a, n, time.Now())
}

func (s *share) holdLocked(a *account, n int, now time.Time) time.Duration {
	s.advanceLocked(now)
	if s.rate == 0 {
		return 0
	}
	if !a.busy {
		a.finish = max(a.finish, s.virtual)
		heap.Push(&s.busy, a)
	}
	start := a.finish
	a.finish += float64(n)
	heap.Fix(&s.busy, a.at)
	return time.Duration((start - s.virtual) * float64(len(s.busy)) / s.rate * float64(time.Second))
}

// advanceLocked serves the busy clients until now.
func (s *share) advanceLocked(now time.Time) {
	left := now.Sub(s.last).Seconds() * s.rate // bytes, of all together
	s.last = now
	for len(s.busy) > 0 {
		first := s.busy[0]
		need := (first.finish - s.virtual) * float64(len(s.busy))
		if need > left && s.rate > 0 {
			s.virtual = min(s.virtual+left/float64(len(s.busy)), first.finish) // rounded
			return
		}
		left -= need
		s.virtual = first.finish
		heap.Pop(&s.busy)
	}
}

// byFinish are clients by the virtual time at which they will have had all, a
// heap.
type byFinish []*account

func (h byFinish) Len() int           { return len(h) }
func (h byFinish) Less(i, j int) bool { return h[i].finish < h[j].finish }
func (h byFinish) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *byFinish) Push(x any) {
	a := x.(*account)
	a.at, a.busy = len(*h), true
	*h = append(*h, a)
}

func (h *byFinish) Pop() any {
	old := *h
	last := len(old) - 1
	a := old[last]
	old[last] = nil
	*h = old[:last]
	a.busy = false
	return a
}
