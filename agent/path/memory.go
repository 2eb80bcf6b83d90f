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
	MPTCP Tri // it speaks it itself
	Joins Tri // from every WAN that has its family a subflow comes up
	// OnPath says whether MPTCP has been answered where a converter stands on the
	// path: by the server or, where that is known not to speak it, by the converter.
	OnPath Tri
	// Lends says whether a subflow comes up also from WANs that lack the server's
	// family: to an address that it announces, or that somebody on the path lends
	// it. Lent is the one seen last.
	Lends Tri
	Lent  netip.Addr
	// Trial says that this connection is to find that out; see Memory.Trial.
	Trial bool
}

const (
	// memorySize is how many servers are remembered; the least lately used
	// goes first.
	memorySize = 4096
	// forget is when a server where something has failed is given another chance.
	forget = 6 * time.Hour
	// A trial may cost a connection a line: there is one in trialLeast, the first
	// so long after it was first asked for, and after each that finds nothing it takes twice as long, up to trialMost.
	trialLeast = time.Minute
	trialMost  = time.Hour
)

// Memory remembers servers, and which of them converters cannot reach. The
// zero value is ready.
type Memory struct {
	verdicts // not kept across restarts

	mu      sync.Mutex
	servers map[netip.AddrPort]*list.Element
	recent  list.List // of *server, the latest used first

	lends     bool          // somebody did, the last time
	trialAt   time.Time     // if not, no trial before
	trialWait time.Duration // after the last that found nothing
	// onPath are the converters that have been seen to convert, or to lend.
	onPath map[string]bool
}

type server struct {
	addr                       netip.AddrPort
	known                      Known
	joinsAt, onPathAt, lendsAt time.Time // when they were learned
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
	return e.Value.(*server).now()
}

// now is what is known, without failures that were long ago.
func (s *server) now() Known {
	for _, failed := range []struct {
		what *Tri
		at   time.Time
	}{{&s.known.Joins, s.joinsAt}, {&s.known.OnPath, s.onPathAt}, {&s.known.Lends, s.lendsAt}} {
		if *failed.what == No && time.Since(failed.at) > forget {
			*failed.what = Unknown
		}
	}
	return s.known
}

// LearnMPTCP notes whether a server speaks MPTCP.
func (m *Memory) LearnMPTCP(addr netip.AddrPort, speaks bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	if was := s.known.MPTCP; was == Yes && !speaks {
		s.known.Joins = Unknown
	}
	s.known.MPTCP = TriOf(speaks)
}

// LearnJoins notes whether second subflows to a server come up.
func (m *Memory) LearnJoins(addr netip.AddrPort, succeed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	s.known.Joins, s.joinsAt = TriOf(succeed), time.Now()
}

// LearnOnPath notes whether MPTCP was answered, by the server or by a converter
// on the path to it.
func (m *Memory) LearnOnPath(addr netip.AddrPort, converter string, speaks bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	s.known.OnPath, s.onPathAt = TriOf(speaks), time.Now()
	switch {
	case !speaks:
		s.known.MPTCP = No
	case s.known.MPTCP == No:
		m.seenLocked(converter)
	}
}

// LearnLent notes the address by which a WAN without a server's family has a
// subflow to it; the zero value: none has come. Converter is the one that
// stands on the path, if it is known.
func (m *Memory) LearnLent(addr netip.AddrPort, converter string, lent netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.serverLocked(addr)
	s.known.Lends, s.lendsAt = TriOf(lent.IsValid()), time.Now()
	if m.lends = lent.IsValid(); !m.lends {
		m.trialWait = min(max(2*m.trialWait, trialLeast), trialMost)
		m.trialAt = time.Now().Add(m.trialWait)
		return
	}
	s.known.Lent = lent
	m.trialWait = 0
	m.seenLocked(converter)
}

// Trial says whether a connection to a server may be the one that finds out
// whether somebody lends an address, and that no other is for a while.
func (m *Memory) Trial(addr netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trialAt.IsZero() {
		m.trialAt = time.Now().Add(trialLeast)
	}
	if m.serverLocked(addr).now().Lends != Unknown || !m.lends && time.Now().Before(m.trialAt) {
		return false
	}
	if !m.lends {
		m.trialAt = time.Now().Add(max(m.trialWait, trialLeast))
	}
	return true
}

// Seen says whether a converter on the path has been seen to convert or to lend.
func (m *Memory) Seen(converter string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.onPath[converter]
}

func (m *Memory) seenLocked(converter string) {
	if m.onPath == nil {
		m.onPath = make(map[string]bool)
	}
	m.onPath[converter] = true
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
// learned in seconds since 1970; on the path and when; lends, when, and the address.
func (s *server) line() string {
	k, lent := s.known, "-"
	if k.Lent.IsValid() {
		lent = k.Lent.String()
	}
	return fmt.Sprintf("%v %d %d %d %d %d %d %d %v\n", s.addr, k.MPTCP, k.Joins, s.joinsAt.Unix(),
		k.OnPath, s.onPathAt.Unix(), k.Lends, s.lendsAt.Unix(), lent)
}

// parse reads what line has written.
func parse(line string) (s *server, err error) {
	f := strings.Fields(line)
	if len(f) == 4 { // all that versions before knew
		f = append(f, "0", "0", "0", "0", "-")
	}
	if len(f) != 9 {
		return nil, fmt.Errorf("%d fields instead of 9", len(f))
	}
	var errs []error
	tri := func(text string) Tri {
		t, err := parseTri(text)
		errs = append(errs, err)
		return t
	}
	at := func(text string) time.Time {
		n, err := strconv.ParseInt(text, 10, 64)
		errs = append(errs, err)
		return time.Unix(n, 0)
	}
	addr, err := netip.ParseAddrPort(f[0])
	errs = append(errs, err)
	s = &server{
		addr:    addr,
		known:   Known{MPTCP: tri(f[1]), Joins: tri(f[2]), OnPath: tri(f[4]), Lends: tri(f[6])},
		joinsAt: at(f[3]), onPathAt: at(f[5]), lendsAt: at(f[7]),
	}
	if f[8] != "-" {
		s.known.Lent, err = netip.ParseAddr(f[8])
		errs = append(errs, err)
	}
	return s, errors.Join(errs...)
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
