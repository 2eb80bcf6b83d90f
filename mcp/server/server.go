// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package server is the Transport Converter (RFC 8803): it takes MPTCP
// connections of clients, learns from the Convert message at their head where
// they want to go, and relays them there.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"braid/mcp/config"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

// Server is one converter.
type Server struct {
	Config config.Config
	Log    *journal.Log
	Stats  Stats

	dialer  mptcp.Dialer
	guard   guard.Guard
	clients clients
	gate    gate
	own     ownAddresses

	requestTimeout, dialTimeout time.Duration

	mu    sync.Mutex
	conns map[*mptcp.Conn]struct{}
}

// New makes a converter that has not started.
func New(c config.Config, log *journal.Log) *Server {
	return &Server{
		Config:  c,
		Log:     log,
		dialer:  mptcp.Dialer{Mutes: true},
		guard:   guard.Guard{Log: log},
		clients: newClients(c.Clients),
		own:     ownAddresses{announced: c.Announce},
		conns:   make(map[*mptcp.Conn]struct{}),

		requestTimeout: requestTimeout,
		dialTimeout:    dialTimeout,
	}
}

// Run serves until ctx ends, then resets what is open. It fails at once when
// it cannot listen.
func (s *Server) Run(ctx context.Context) error {
	var listeners []*net.TCPListener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for _, addr := range s.Config.Listen {
		l, err := mptcp.Listen(ctx, addr.String())
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		s.Log.Info("listening", "address", addr)
	}
	var running sync.WaitGroup
	running.Go(func() { s.guard.Run(ctx) })
	for _, l := range listeners {
		running.Go(func() { s.accept(ctx, l, &running) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	s.resetAll()
	running.Wait()
	return nil
}

// accept hands every connection of a listener to a goroutine of its own.
func (s *Server) accept(ctx context.Context, l *net.TCPListener, running *sync.WaitGroup) {
	for {
		c, err := mptcp.Accept(l)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors, most likely
			s.Log.Error("accepting", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !s.add(ctx, c) {
			relay.Reset(c.TCPConn)
			continue
		}
		running.Go(func() {
			defer s.remove(c)
			s.serve(ctx, c)
		})
	}
}

// add remembers an open connection, so that it can be reset when Run ends. It
// refuses one that came too late for that.
func (s *Server) add(ctx context.Context, c *mptcp.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *mptcp.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

func (s *Server) resetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		relay.Reset(c.TCPConn)
	}
}

// source is what clients are told apart by before they have said who they
// are: an IPv4 address, or the IPv6 network a subscriber gets.
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
