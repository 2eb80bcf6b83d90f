// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/list"
	"sync"
	"time"
)

const (
	// quantum is how many bytes of a client's go in a turn.
	quantum = 64 << 10
	// shareBurst is what may go at once on a line that was not full.
	shareBurst = 50 * time.Millisecond
)

// share divides what the host's line carries among the clients that want more
// than there is: each has its turn, however many connections it has (deficit
// round robin). Who wants less than its part does not wait. The zero value has no
// limit.
type share struct {
	mu    sync.Mutex
	rate  float64 // bytes a second; 0: no limit
	level float64 // bytes that may go now; less than none: have gone already
	last  time.Time
	turns list.List // of *queue, those in which somebody waits
	timer *time.Timer
}

// queue is those of a client's connections that wait. It is under the share's
// lock.
type queue struct {
	deficit int // bytes that may go in this turn; less than none: went too early
	waiting []turn
}

type turn struct {
	bytes int
	goC   chan struct{}
}

// set changes the limit.
func (s *share) set(rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.level, s.last = rate, 0, time.Now()
	s.nextLocked()
}

// wait returns when n bytes of a client's may go.
func (s *share) wait(a *account, n int) {
	s.mu.Lock()
	if s.rate == 0 {
		s.mu.Unlock()
		return
	}
	s.fillLocked()
	if s.level >= 0 && s.turns.Len() == 0 {
		s.level -= float64(n)
		s.mu.Unlock()
		return
	}
	q := &a.queue
	if len(q.waiting) == 0 {
		s.turns.PushBack(q)
	}
	t := turn{n, make(chan struct{})}
	q.waiting = append(q.waiting, t)
	s.nextLocked()
	s.mu.Unlock()
	<-t.goC
}

func (s *share) fillLocked() {
	now := time.Now()
	s.level = min(s.level+s.rate*now.Sub(s.last).Seconds(), s.rate*shareBurst.Seconds())
	s.last = now
}

// nextLocked lets go what may, and comes again when more may.
func (s *share) nextLocked() {
	s.fillLocked()
	for s.turns.Len() > 0 && (s.level >= 0 || s.rate == 0) {
		e := s.turns.Front()
		q := e.Value.(*queue)
		if q.deficit <= 0 {
			q.deficit += quantum
		}
		for q.deficit > 0 && len(q.waiting) > 0 && (s.level >= 0 || s.rate == 0) {
			t := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.deficit -= t.bytes
			s.level -= float64(t.bytes)
			close(t.goC)
		}
		switch {
		case len(q.waiting) == 0:
			s.turns.Remove(e)
			q.waiting, q.deficit = nil, min(q.deficit, 0)
		case q.deficit <= 0:
			s.turns.MoveToBack(e)
		}
	}
	if s.turns.Len() == 0 {
		return
	}
	wait := time.Duration(-s.level / s.rate * float64(time.Second))
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.next)
		return
	}
	s.timer.Reset(wait)
}

func (s *share) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextLocked()
}
