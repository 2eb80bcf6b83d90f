// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync"
	"time"

	"braid/agent/path"
	"braid/transport/mptcp"
)

// past is a deadline that ends what is under way.
var past = time.Unix(1, 0)

// search is the context of the search for one far side. It ends by end, at a time,
// and with the context that it is in. Done tells of the last alone: those who
// dial ask, and those who read are interrupted by end. Contexts of package context
// that do as much are nine allocations.
type search struct {
	in    context.Context
	until time.Time

	mu    sync.Mutex
	err   error                         // why it has ended
	reads [path.MaxAttempts]*mptcp.Conn // what each attempt reads from
}

// Deadline implements context.Context.
func (s *search) Deadline() (time.Time, bool) { return s.until, true }

// Done implements context.Context.
func (s *search) Done() <-chan struct{} { return s.in.Done() }

// Value implements context.Context.
func (s *search) Value(key any) any { return s.in.Value(key) }

// Err implements context.Context, but for what it returns once end has been called.
func (s *search) Err() error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err == nil {
		err = s.in.Err()
	}
	if err == nil && !time.Now().Before(s.until) {
		err = context.DeadlineExceeded
	}
	return err
}

// end ends it for a reason, unless it has been ended.
func (s *search) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = reason
	for _, c := range s.reads {
		if c != nil {
			c.SetReadDeadline(past)
		}
	}
}

// read has what an attempt reads from a connection end with the search, until done; false: it
// has ended.
func (s *search) read(attempt int, c *mptcp.Conn) bool {
	if s.Err() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.reads[attempt] = c
	c.SetReadDeadline(s.until)
	return true
}

// done ends what read has begun; false: the search has ended before.
func (s *search) done(attempt int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.reads[attempt]
	s.reads[attempt] = nil
	if s.err != nil {
		return false
	}
	c.SetReadDeadline(time.Time{})
	return true
}
