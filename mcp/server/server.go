// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package server is the Transport Converter (RFC 8803): it takes MPTCP
// connections of clients, learns from the Convert message at their head where
// they want to go, and relays them there.
package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"braid/mcp/config"
	"braid/mcp/onpath"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// Server is one converter.
type Server struct {
	Log   *journal.Log
	Stats Stats
	// OnPath is the same process's place on its clients' path.
	OnPath *onpath.OnPath

	config                atomic.Pointer[config.Config]
	clients               atomic.Pointer[clients]
	dialer                mptcp.Dialer
	turn                  atomic.Uint32 // which source address is next
	guard                 guard.Guard
	memory                *mptcp.Memory
	issuer                *proof.Issuer
	strangers, neighbours gate // the latter are in a client's network
	nat64                 atomic.Pointer[[]netip.Prefix]
	learning              atomic.Bool // nat64
	wrong                 seldom
	share                 share
	records               addressLog
	started               time.Time
	files                 int          // that connections may have, both ends together
	admitted              atomic.Int64 // connections of clients, each of which has two ends, or will

	requestTimeout, dialTimeout time.Duration

	listeners []*mptcp.Listener
	deafC     chan struct{} // closed when nothing is accepted any more

	mu       sync.Mutex
	draining bool
	sessions map[*session]struct{}
	running  sync.WaitGroup
}

// New makes a converter that has not started.
func New(c config.Config, log *journal.Log) *Server {
	var run [8]byte
	rand.Read(run[:]) // never fails, see its documentation
	s := &Server{
		Log:        log,
		OnPath:     onpath.New(log, descriptors()),
		dialer:     mptcp.Dialer{Mutes: true, Near: true},
		guard:      guard.Guard{Log: log},
		memory:     mptcp.NewMemory(),
		issuer:     proof.NewIssuer(binary.BigEndian.Uint64(run[:])),
		started:    time.Now(),
		strangers:  newGate(),
		neighbours: newGate(),
		files:      2 * descriptors(),
		sessions:   make(map[*session]struct{}),
		deafC:      make(chan struct{}),

		requestTimeout: requestTimeout,
		dialTimeout:    dialTimeout,
	}
	s.config.Store(&c)
	s.share.set(bytesPerSecond(c.Rate))
	s.clients.Store(newClients(c.Clients, nil))
	s.nat64.Store(new([]netip.Prefix))
	return s
}

// descriptors is for how many connections with two ends each there are files,
// when some are kept back for other things.
func descriptors() int {
	const others = 256
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur < 2*others {
		return others / 2
	}
	return int(l.Cur-others) / 2
}

// Reload makes another configuration hold: clients, limits, destinations, the
// address log. Open connections stay, but for those of clients that are gone.
func (s *Server) Reload(c config.Config) {
	s.config.Store(&c)
	s.share.set(bytesPerSecond(c.Rate))
	old := s.clients.Load()
	s.clients.Store(newClients(c.Clients, old))
	stay := make(map[*account]bool)
	for _, a := range s.clients.Load().accounts {
		stay[a] = true
	}
	s.mu.Lock()
	for _, a := range old.accounts {
		a.removed = !stay[a]
	}
	s.mu.Unlock()
	s.reset(func(se *session) bool { return se.account != nil && !stay[se.account] })
	s.records.close()
	go s.learnNAT64(context.Background()) // for as long as DNS takes
}

// letGo is how long an address may be in use that an inherited listener has been
// closed at: others may have copies of it, which they are closing.
const letGo = 2 * time.Second

// Listen opens the listeners, of which some may have been inherited. Of those, what is
// not asked for is closed before, for it may have the port of what is; so is every
// copy of it, by forget, which is called if there is any.
func (s *Server) Listen(ctx context.Context, inherited []*mptcp.Listener, forget func()) error {
	asked := s.config.Load().Listen
	s.listeners = make([]*mptcp.Listener, len(asked))
	var patience time.Duration
	for _, l := range inherited {
		i := slices.IndexFunc(asked, l.IsAt)
		if i >= 0 && s.listeners[i] == nil {
			s.listeners[i] = l
			continue
		}
		s.Log.Info("not listening any more", "address", l.Addr())
		l.Close()
		patience = letGo
	}
	if patience > 0 {
		forget()
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, addr := range asked {
		for s.listeners[i] == nil {
			l, err := mptcp.Listen(ctx, addr)
			switch {
			case err == nil:
				s.listeners[i] = l
			case errors.Is(err, syscall.EADDRINUSE) && patient.Err() == nil:
				time.Sleep(letGo / 100)
			default:
				return err
			}
		}
		s.Log.Info("listening", "address", addr)
	}
	if c := mptcp.CongestionControl(); c.Missing != nil {
		s.Log.Warn("without BBR: lines that lose packets carry less", "congestion", c.Lines, "reason", c.Missing)
	} else {
		s.Log.Info("congestion control", "lines", c.Lines, "servers", c.Near)
	}
	return nil
}

// Listeners are those that Listen has opened.
func (s *Server) Listeners() []*mptcp.Listener { return s.listeners }

// Deaf is closed when Run accepts nothing any more.
func (s *Server) Deaf() <-chan struct{} { return s.deafC }

// Run serves until ctx ends. What is open then may end by itself until halt
// ends; the rest is reset.
func (s *Server) Run(ctx, halt context.Context) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() { s.guard.Run(work) })
	s.running.Go(func() { s.learnNAT64(work) })
	s.running.Go(func() { s.patrol(work) })
	var accepting sync.WaitGroup
	for _, l := range s.listeners {
		accepting.Go(func() { s.accept(work, l) })
	}
	<-ctx.Done()
	for _, l := range s.listeners {
		l.Close()
	}
	accepting.Wait()
	close(s.deafC)
	s.drain(halt)
	stop()
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.reset(func(*session) bool { return true })
	s.running.Wait()
	s.records.close()
}

// drain waits for the end of what is open.
func (s *Server) drain(halt context.Context) {
	const interval = 10 * time.Millisecond
	if n := s.count(); n > 0 {
		s.Log.Info("draining", "connections", n)
	}
	s.mu.Lock()
	for se := range s.sessions {
		_ = se.client.Ask() // or its end comes when it comes
	}
	s.mu.Unlock()
	for s.count() > 0 && halt.Err() == nil {
		time.Sleep(interval)
	}
}

func (s *Server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// accept hands every connection of a listener to a goroutine of its own.
func (s *Server) accept(ctx context.Context, l *mptcp.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case isClosed(err):
			return
		case err != nil: // out of descriptors, most likely
			s.wrong.warn(s.Log, "accepting", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		se := &session{server: s, client: c}
		if !s.add(se) {
			c.Reset()
			continue
		}
		s.running.Add(1)
		go se.serve(ctx)
	}
}

// add remembers an open connection, so that it can be reset. It refuses one
// that came too late for that.
func (s *Server) add(se *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.sessions[se] = struct{}{}
	return true
}

func (s *Server) remove(se *session) {
	s.mu.Lock()
	delete(s.sessions, se)
	s.mu.Unlock()
	se.client.Close()
}

// reset ends the sessions for which which says so.
func (s *Server) reset(which func(*session) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for se := range s.sessions {
		if which(se) {
			se.client.Reset()
			if se.far != nil { // with the client half-closed, only that is still read
				se.far.Reset()
			}
		}
	}
}

// full says whether clients have all the files that there are.
func (s *Server) full() bool { return 2*int(s.admitted.Load()) >= s.files }

// makeRoom has the oldest stranger give way where there are no more files than are
// in use.
func (s *Server) makeRoom() {
	if s.count()+int(s.admitted.Load()) < s.files {
		return
	}
	for _, g := range []*gate{&s.strangers, &s.neighbours} {
		if oldest := g.shed(); oldest != nil {
			s.Stats.Shed.Add(1)
			oldest.Reset()
			return
		}
	}
}

// source is what strangers are told apart by: an IPv4 address, or the IPv6
// network a subscriber gets.
func source(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		panic(fmt.Sprintf("address %v has no prefix: %v", a, err)) // bits fit the family
	}
	return p
}
