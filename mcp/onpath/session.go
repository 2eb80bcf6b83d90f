// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"context"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"braid/onpath/lend"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

// dialTimeout bounds the connection to a server, which has answered a moment
// before.
const dialTimeout = 20 * time.Second

// sessions are the connections that are converted: MPTCP to the client, TCP to
// the server.
type sessions struct {
	log    *journal.Log
	dialer mptcp.Dialer
	guard  guard.Guard
	memory *mptcp.Memory

	converted, failed atomic.Uint64
	up, down          atomic.Uint64 // bytes of closed ones, from and to clients

	mu      sync.Mutex
	open    map[*session]struct{}
	flows   map[lend.Flow]*session // by their first ones
	ending  bool                   // those that are open are to end by themselves
	closing bool
	running sync.WaitGroup
}

type session struct {
	sessions    *sessions
	client, far *mptcp.Conn
	pair        relay.Pair
	ward        guard.Ward
	memory      int64 // that it was given, in bytes
}

// flow is the first one of the client's.
func (se *session) flow() lend.Flow {
	return lend.Flow{Client: se.client.Remote, Server: se.client.Local}
}

func newSessions(log *journal.Log) *sessions {
	return &sessions{
		log:    log,
		dialer: mptcp.Dialer{TCP: true, Near: true},
		guard:  guard.Guard{Log: log},
		memory: mptcp.NewMemory(),
		open:   make(map[*session]struct{}),
		flows:  make(map[lend.Flow]*session),
	}
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// ask says whether the connection is one of them that a flow belongs to.
func (s *sessions) ask(c *lend.Connection, _ lend.Flow) lend.Knowledge {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flows[c.First] != nil {
		return lend.Open
	}
	return lend.Unknown
}

// accept takes over a connection that was intercepted, to the server that its
// client has dialled.
func (s *sessions) accept(ctx context.Context, c *mptcp.Conn) {
	se := &session{sessions: s, client: c}
	if !s.add(se) {
		c.Reset()
		return
	}
	s.running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("converting a connection", "panic", p, "stack", string(debug.Stack()))
				c.Reset()
				s.remove(se)
			}
		}()
		s.convert(ctx, se)
	})
}

func (s *sessions) convert(ctx context.Context, se *session) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	far, err := s.dialer.Dial(ctx, netip.Addr{}, se.client.Local, nil)
	if err != nil {
		s.failed.Add(1)
		s.log.Debug("converting", "from", se.client.Remote, "error", err)
		se.client.Reset()
		s.remove(se)
		return
	}
	// A client that has vanished is to be found out, and one that has not to stay
	// reachable: it does not know of us, and asks as seldom as it likes.
	_ = se.client.KeepMapped(true)
	s.mu.Lock()
	se.far = far
	if s.ending {
		_ = se.client.Ask() // or its end comes when it comes
	}
	s.mu.Unlock()
	s.converted.Add(1)
	se.memory = s.memory.Give(se.client)
	s.guard.Add(&se.ward, se.client, &se.pair.BToA)
	se.pair.A, se.pair.B, se.pair.KeepMapped = se.client, far, true
	se.pair.Owner = se
	s.running.Add(1)
	se.pair.Start()
}

// Pace implements relay.Owner.
func (se *session) Pace(int) time.Duration { return 0 }

// Closing implements relay.Owner.
func (se *session) Closing() {}

// Closed implements relay.Owner.
func (se *session) Closed(err error) {
	s := se.sessions
	defer s.running.Done()
	s.guard.Remove(&se.ward)
	s.memory.Return(se.memory)
	s.up.Add(se.pair.AToB.Load())
	s.down.Add(se.pair.BToA.Load())
	s.remove(se)
	s.log.Debug("closed", "from", se.client.Remote, "server", se.far.Remote, "error", err)
}

// add fails when all is to end.
func (s *sessions) add(se *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.open[se], s.flows[se.flow()] = struct{}{}, se
	return true
}

func (s *sessions) remove(se *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, se)
	if s.flows[se.flow()] == se { // the client may have used its port again
		delete(s.flows, se.flow())
	}
}

// end waits for the end of what is open, until halt ends; the rest is reset.
func (s *sessions) end(halt context.Context) {
	const interval = 10 * time.Millisecond
	s.mu.Lock()
	s.ending = true
	for se := range s.open {
		_ = se.client.Ask()
	}
	s.mu.Unlock()
	for s.count() > 0 && halt.Err() == nil {
		time.Sleep(interval)
	}
	s.mu.Lock()
	s.closing = true
	for se := range s.open {
		se.client.Reset()
		if se.far != nil {
			se.far.Reset()
		}
	}
	s.mu.Unlock()
	s.running.Wait()
}
