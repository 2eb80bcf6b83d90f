// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"
)

// patrolInterval is how often patrol looks.
const patrolInterval = time.Second

// patrol ends, until ctx does, what was all right when it began.
func (s *Server) patrol(ctx context.Context) {
	tick := time.NewTicker(patrolInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.endJoined(now)
			s.endExpired(now)
		}
	}
}

// endJoined resets strangers that have joined further subflows, each of which
// takes as much of the kernel's memory as the first. A client's request that got
// lost comes by one of them, within a second.
func (s *Server) endJoined(now time.Time) {
	for _, g := range []*gate{&s.strangers, &s.neighbours} {
		for _, c := range g.dubious(now) {
			if !c.MPTCP {
				continue
			}
			if in, err := c.Info(); err == nil && in.Subflows > 0 {
				s.Stats.Shed.Add(1)
				c.Reset()
			}
		}
	}
}

// endExpired resets what clients have open whose time is over.
func (s *Server) endExpired(now time.Time) {
	for _, a := range s.clients.Load().expiring {
		if a.over(now) {
			s.reset(func(se *session) bool { return se.account == a })
		}
	}
}
