// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"bufio"
	"container/list"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Tri is what is known of a yes-or-no question.
type Tri int

// The answers.
const (
	Unknown Tri = iota
	Yes
	No
)

// TriOf is the answer to a question that has been answered.
func TriOf(yes bool) Tri {
	if yes {
		return Yes
	}
	return No
}

func (t Tri) String() string {
	switch t {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unknown"
}

// Known is what is known of a server. Speaking MPTCP does not mean that
// second subflows arrive: the server may ask for none (the C flag, RFC 8684
// section 3.1), or sit behind a balancer that sends them elsewhere.
type Known struct {
	MPTCP Tri
	Joins Tri
}

const (
	// memorySize is how many servers are remembered; the least lately used
	// goes first.
	memorySize = 4096
	// joinsForget is when a server whose joins failed is given another chance.
	joinsForget = 6 * time.Hour
)

// Memory remembers servers, and which of them converters cannot reach. The
// zero value is ready.
type Memory struct {
	verdicts // not kept across restarts

	mu      sync.Mutex
	servers map[netip.AddrPort]*list.Element
	recent  list.List // of *server, the latest used first
}

type server struct {
	addr    netip.AddrPort
	known   Known
	joinsAt time.Time // when Joins was learned
}

// Lookup says what is known of a server.
func (m *Memory) Lookup(addr netip.AddrPort) Known {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.servers[addr]
	if e == nil {
		return Known{}
	}
	m.recent.MoveToFront(e)
	s := e.Value.(*server)
	if s.known.Joins == No && time.Since(s.joinsAt) > joinsForget {
		s.known.Joins = Unknown
	}
	return s.known
}

// LearnMPTCP notes whether a server speaks MPTCP.
func (m *Memory) LearnMPTCP(addr netip.AddrPort, speaks bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	if s.known.MPTCP = TriOf(speaks); !speaks {
		s.known.Joins = Unknown
	}
}

// LearnJoins notes whether second subflows to a server come up.
func (m *Memory) LearnJoins(addr netip.AddrPort, succeed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	s.known.Joins, s.joinsAt = TriOf(succeed), time.Now()
}

func (m *Memory) serverLocked(addr netip.AddrPort) *server {
	if e := m.servers[addr]; e != nil {
		m.recent.MoveToFront(e)
		return e.Value.(*server)
	}
	if m.servers == nil {
		m.servers = make(map[netip.AddrPort]*list.Element)
	}
	if m.recent.Len() >= memorySize {
		oldest := m.recent.Remove(m.recent.Back()).(*server)
		delete(m.servers, oldest.addr)
	}
	s := &server{addr: addr}
	m.servers[addr] = m.recent.PushFront(s)
	return s
}

// line is the server in a file: address, MPTCP, joins, and when these were
// learned in seconds since 1970.
func (s *server) line() string {
	return fmt.Sprintf("%v %d %d %d\n", s.addr, s.known.MPTCP, s.known.Joins, s.joinsAt.Unix())
}

// parse reads what line has written.
func parse(line string) (*server, error) {
	f := strings.Fields(line)
	if len(f) != 4 {
		return nil, fmt.Errorf("%d fields instead of 4", len(f))
	}
	addr, err1 := netip.ParseAddrPort(f[0])
	speaks, err2 := parseTri(f[1])
	joins, err3 := parseTri(f[2])
	at, err4 := strconv.ParseInt(f[3], 10, 64)
	return &server{addr, Known{speaks, joins}, time.Unix(at, 0)}, errors.Join(err1, err2, err3, err4)
}

func parseTri(text string) (Tri, error) {
	n, err := strconv.Atoi(text)
	if t := Tri(n); err == nil && t >= Unknown && t <= No {
		return t, nil
	}
	return Unknown, fmt.Errorf("%q is none of 0, 1 and 2", text)
}

// Save writes all that is known, a line a server, the least lately used first.
func (m *Memory) Save(w io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := m.recent.Back(); e != nil; e = e.Prev() {
		if _, err := io.WriteString(w, e.Value.(*server).line()); err != nil {
			return fmt.Errorf("saving what is known of servers: %w", err)
		}
	}
	return nil
}

// Load adds what Save has written. A line that makes no sense is passed over
// and reported, the others count.
func (m *Memory) Load(r io.Reader) error {
	var errs []error
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		s, err := parse(sc.Text())
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d is no server: %w", n, err))
			continue
		}
		m.mu.Lock()
		*m.serverLocked(s.addr) = *s
		m.mu.Unlock()
	}
	return errors.Join(append(errs, sc.Err())...)
}
