// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"

	"braid/transport/journal"
)

// seldom logs what anybody can cause, once a second at most. The zero value is
// ready.
type seldom struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

func (s *seldom) warn(log *journal.Log, msg string, args ...any) {
	s.mu.Lock()
	if time.Since(s.last) < time.Second {
		s.skipped++
		s.mu.Unlock()
		return
	}
	skipped := s.skipped
	s.last, s.skipped = time.Now(), 0
	s.mu.Unlock()
	log.Warn(msg, append(args, "unlogged", skipped)...)
}
