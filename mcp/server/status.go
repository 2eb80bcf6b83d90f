// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"braid/mcp/onpath"
	"braid/transport/convert"
	"braid/transport/mptcp"
)

// Status is what `braid-mcp status` shows. Times are in seconds.
type Status struct {
	Version      string            `json:"version"`
	Uptime       int               `json:"uptime"`
	Listen       []netip.AddrPort  `json:"listen"`
	Connections  int               `json:"connections"` // open
	Congestion   string            `json:"congestion"`  // control of what is sent to clients
	Strangers    int               `json:"strangers"`   // connections of which it is not known whose they are
	Goroutines   int               `json:"goroutines"`  // of the program's
	Accepted     uint64            `json:"accepted"`
	AcceptedTCP  uint64            `json:"accepted_tcp"`
	Relayed      uint64            `json:"relayed"`
	Reset        uint64            `json:"reset"`
	Shed         uint64            `json:"shed"`
	WrongCookies uint64            `json:"wrong_cookies"`
	Refused      map[string]uint64 `json:"refused"` // by reason
	Clients      []ClientStatus    `json:"clients"`
	OnPath       *onpath.Status    `json:"on_path,omitempty"`
}

// ClientStatus is what is known of a client.
type ClientStatus struct {
	Name     string            `json:"name"`
	Expires  *time.Time        `json:"expires,omitempty"`
	Open     int               `json:"connections"` // now
	Limit    int               `json:"limit"`
	Pending  int               `json:"pending"`
	Subflows int               `json:"subflows"` // now
	Relayed  uint64            `json:"relayed"`
	Up       uint64            `json:"up"` // bytes, those of open connections included
	Down     uint64            `json:"down"`
	Refused  map[string]uint64 `json:"refused,omitempty"` // by reason
	Seen     *int              `json:"seen,omitempty"`    // ago; absent: never
	Lines    []LineStatus      `json:"lines"`
}

// LineStatus is an address that a client has come from.
type LineStatus struct {
	Address  netip.Addr `json:"address"`
	Subflows int        `json:"subflows"` // now
	Seen     int        `json:"seen"`     // ago
}

// Status tells what goes on.
func (s *Server) Status(version string) Status {
	st := Status{
		Version:      version,
		Uptime:       int(time.Since(s.started).Seconds()),
		Listen:       s.config.Load().Listen,
		Connections:  int(s.Stats.Open.Load()),
		Congestion:   mptcp.CongestionControl().Lines,
		Strangers:    s.strangers.waiting(),
		Goroutines:   runtime.NumGoroutine(),
		Accepted:     s.Stats.Accepted.Load(),
		AcceptedTCP:  s.Stats.AcceptedTCP.Load(),
		Relayed:      s.Stats.Relayed.Load(),
		Reset:        s.Stats.Reset.Load(),
		Shed:         s.Stats.Shed.Load(),
		WrongCookies: s.Stats.WrongCookies.Load(),
		Refused:      make(map[string]uint64),
		Clients:      s.clientStatus(),
		OnPath:       s.OnPath.Status(),
	}
	for code := range s.Stats.errors {
		if n := s.Stats.errors[code].Load(); n > 0 {
			st.Refused[convert.ErrorCode(code).String()] = n
		}
	}
	return st
}

// Alive returns, and says yes, unless the converter is stuck.
func (s *Server) Alive() bool { return s.count() >= 0 }

// Summary is the status in a line.
func (s *Server) Summary() string {
	busy := 0
	accounts := s.clients.Load().accounts
	for _, a := range accounts {
		a.mu.Lock()
		if a.open > 0 {
			busy++
		}
		a.mu.Unlock()
	}
	return fmt.Sprintf("%d connections of %d of %d clients; %d carried, %d bytes up, %d down; %d strangers",
		s.Stats.Open.Load(), busy, len(accounts), s.Stats.Relayed.Load(), s.Stats.Up.Load(), s.Stats.Down.Load(), s.strangers.waiting())
}

// live is what a client's open connections come to.
type live struct {
	up, down uint64
	subflows map[netip.Addr]int // by the client's address
}

func (s *Server) clientStatus() (list []ClientStatus) {
	lives := make(map[*account]*live)
	for _, se := range s.relayed() {
		l := lives[se.account]
		if l == nil {
			l = &live{subflows: make(map[netip.Addr]int)}
			lives[se.account] = l
		}
		l.up += se.pair.AToB.Load()
		l.down += se.pair.BToA.Load()
		flows, err := se.client.Subflows()
		if err != nil || !se.client.MPTCP {
			l.subflows[se.client.Remote.Addr()]++ // plain TCP, or just closed
		}
		for _, f := range flows {
			l.subflows[f.Remote.Addr()]++
		}
	}
	now := time.Now()
	for _, a := range s.clients.Load().accounts {
		l := lives[a]
		if l == nil {
			l = new(live)
		}
		list = append(list, a.status(l, now))
	}
	return list
}

// relayed are the connections that are carried.
func (s *Server) relayed() (list []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for se := range s.sessions {
		if se.carried.Load() {
			list = append(list, se)
		}
	}
	return list
}

func (a *account) status(l *live, now time.Time) ClientStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	ago := func(t time.Time) int { return int(now.Sub(t).Seconds()) }
	c := ClientStatus{
		Name:    a.name,
		Open:    a.open,
		Limit:   a.client.Connections,
		Pending: a.pending,
		Relayed: a.relayed,
		Up:      a.up.Load() + l.up,
		Down:    a.down.Load() + l.down,
		Refused: maps.Clone(a.refused),
	}
	if !a.client.Expires.IsZero() {
		expires := a.client.Expires // which a reload may change
		c.Expires = &expires
	}
	if !a.seen.IsZero() {
		seen := ago(a.seen)
		c.Seen = &seen
	}
	for addr, n := range l.subflows {
		c.Subflows += n
		if _, known := a.lines[addr]; !known {
			c.Lines = append(c.Lines, LineStatus{addr, n, 0})
		}
	}
	for addr, t := range a.lines {
		line := LineStatus{addr, l.subflows[addr], ago(t)}
		if line.Subflows > 0 {
			line.Seen = 0
		}
		c.Lines = append(c.Lines, line)
	}
	slices.SortFunc(c.Lines, func(x, y LineStatus) int {
		return cmp.Or(y.Subflows-x.Subflows, x.Seen-y.Seen, x.Address.Compare(y.Address))
	})
	return c
}
