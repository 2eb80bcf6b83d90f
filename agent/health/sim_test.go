// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"braid/agent/netstate"
)

// sim is a world of lines in simulated time, in which a real Monitor runs.
type sim struct {
	t     *testing.T
	m     *Monitor
	start time.Time

	mu    sync.Mutex
	lines map[string]*line // by device
	looks int              // of the monitor at counters
	kinds map[Leg]Verdict  // as last seen
	log   []change
}

// change is a verdict that came about.
type change struct {
	at time.Duration
	Leg
	Verdict Verdict
	Reason  string
}

// line is what a device is connected to. Its functions get the time since the
// start.
type line struct {
	rtt     func(at time.Duration) time.Duration                    // of a probe sent then; negative: it is lost
	beyond  func(to netip.AddrPort, at time.Duration) time.Duration // what is added to that; negative: nobody answers
	stream  func(at time.Duration) int                              // packets that have come in beside answers
	upload  func(at time.Duration) int                              // bytes that have been sent beside probes
	size    func(at time.Duration) int                              // of the largest packet that passes; nil: whatever is sent
	again   func(at time.Duration) int                              // segments among them that TCP has sent again
	sent    int                                                     // probes
	large   atomic.Int64                                            // bytes of those with a size
	answers int
	// Those by TCP among them.
	sentTCP, answersTCP int
}

// cost is what all this has taken in bytes, where an echo and its answer are
// of one size, a connect has another, and a SYN that is lost is sent twice.
func (l *line) cost(echo, connect, syn int) int {
	return (l.sent-l.sentTCP+l.answers-l.answersTCP)*echo + l.answersTCP*connect + (l.sentTCP-l.answersTCP)*2*syn
}

var (
	peer4 = netip.MustParseAddrPort("192.0.2.10:0")
	peer6 = netip.MustParseAddrPort("[2001:db8:10::10]:0")
)

func steady(rtt time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return rtt }
}

// until makes a line dead from a time on, for as long.
func until(from, length time.Duration, rtt func(time.Duration) time.Duration) func(time.Duration) time.Duration {
	return func(at time.Duration) time.Duration {
		if d := rtt(at); at+d < from || at >= from+length { // the answer has to get through
			return d
		}
		return -1
	}
}

// flow is a stream of packets a fixed time apart within some periods.
func flow(every time.Duration, periods ...[2]time.Duration) func(time.Duration) int {
	return func(at time.Duration) (n int) {
		for _, p := range periods {
			n += int(max(0, min(at, p[1])-p[0]) / every)
		}
		return n
	}
}

// run lets a Monitor watch targets in simulated time while f runs. It is to be
// called in a bubble.
func run(t *testing.T, lines map[string]*line, targets []Target, f func(s *sim)) *sim {
	s := &sim{t: t, m: NewMonitor(discard), start: time.Now(), lines: lines, kinds: make(map[Leg]Verdict)}
	s.m.open = s.open
	s.m.openSized = s.openSized
	s.m.again = func() uint64 {
		n := 0
		for _, l := range lines {
			if l.again != nil {
				n += l.again(s.now())
			}
		}
		return uint64(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.m.Run(ctx) })
	running.Go(func() { watch(ctx, s.m, s.counters) })
	running.Go(func() {
		for {
			select {
			case <-s.m.Changed():
				s.look()
			case <-ctx.Done():
				return
			}
		}
	})
	s.m.SetTargets(targets)
	f(s)
	cancel()
	running.Wait()
	return s
}

func (s *sim) open(_ context.Context, device string, _ netip.Addr, _ bool, _ uint16) (conn, error) {
	return &wire{s: s, device: device, answerC: make(chan answer, 100), closedC: make(chan struct{})}, nil
}

func (s *sim) openSized(ctx context.Context, device string, source netip.Addr, id uint16) (sized, error) {
	c, err := s.open(ctx, device, source, false, id)
	return c.(*wire), err
}

func (s *sim) now() time.Duration { return time.Since(s.start) }

func (s *sim) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, h := range s.m.Health() {
		if s.kinds[p] != h.Verdict {
			s.kinds[p] = h.Verdict
			s.log = append(s.log, change{s.now(), p, h.Verdict, h.Reason})
		}
	}
}

// sent are the probes over a device, and those of them by TCP.
func (s *sim) sent(device string) (all, tcp int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[device].sent, s.lines[device].sentTCP
}

// looked is how often the monitor has.
func (s *sim) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

// changes are the verdicts of one path since a time.
func (s *sim) changes(p Leg, since time.Duration) (found []change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.log {
		if c.Leg == p && c.at >= since {
			found = append(found, c)
		}
	}
	return found
}

// died fails unless a path died once, within some time.
func (s *sim) died(p Leg, after, within time.Duration) {
	s.t.Helper()
	c := slices.DeleteFunc(s.changes(p, after), func(c change) bool { return c.Verdict == Degraded })
	if len(c) == 0 || c[0].Verdict != Down || c[0].at-after > within {
		s.t.Errorf("%+v: %+v, want it down between %v and %v", p, c, after, after+within)
	}
}

// lived fails if a path was down at any time.
func (s *sim) lived(paths ...Leg) {
	s.t.Helper()
	for _, p := range paths {
		for _, c := range s.changes(p, 0) {
			if c.Verdict == Down {
				s.t.Errorf("died falsely: %+v", c)
			}
		}
	}
}

func (s *sim) counters() map[string]netstate.Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	all := make(map[string]netstate.Traffic)
	for name, l := range s.lines {
		n := l.answers
		if l.stream != nil {
			n += l.stream(s.now())
		}
		sent := 0
		if l.upload != nil {
			sent = l.upload(s.now())
		}
		all[name] = netstate.Traffic{RXPackets: uint64(n), TX: uint64(sent)}
	}
	return all
}

// wire is a conn of the simulation.
type wire struct {
	s       *sim
	device  string
	answerC chan answer
	closedC chan struct{}
}

func (w *wire) Send(to netip.AddrPort, seq uint16) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	l := w.s.lines[w.device]
	l.sent++
	if to.Port() != 0 {
		l.sentTCP++
	}
	d, more := l.rtt(w.s.now()), time.Duration(0)
	if l.beyond != nil {
		more = l.beyond(to, w.s.now())
	}
	if d >= 0 && more >= 0 {
		d += more
		time.AfterFunc(d, func() {
			w.s.mu.Lock()
			defer w.s.mu.Unlock()
			l.answers++
			if to.Port() != 0 {
				l.answersTCP++
			}
			w.answerC <- answer{seq: seq, from: to.Addr()}
		})
	}
	return nil
}

// SendSize sends a probe that the line may be too narrow for.
func (w *wire) SendSize(to netip.Addr, seq uint16, size int) error {
	w.s.mu.Lock()
	l := w.s.lines[w.device]
	fits := l.size == nil || size <= l.size(w.s.now())
	l.large.Add(int64(size))
	w.s.mu.Unlock()
	if !fits {
		return nil
	}
	return w.Send(netip.AddrPortFrom(to, 0), seq)
}

func (w *wire) Receive() (uint16, netip.Addr, error) {
	select {
	case a := <-w.answerC:
		return a.seq, a.from, nil
	case <-w.closedC:
		return 0, netip.Addr{}, net.ErrClosed
	}
}

func (w *wire) Close() error {
	close(w.closedC)
	return nil
}

func target(wan string, peer netip.AddrPort, patient bool) Target {
	return Target{Leg: Leg{wan, wan, peer.Addr().Is6()}, Ways: Ways{peer}, Patient: patient}
}

// jitter adds between 0 and most to a delay, wandering from one random value
// to the next each 20 ms.
type jitter struct {
	most   time.Duration
	values []float64
}

func newJitter(most time.Duration, seed uint64, length time.Duration) *jitter {
	rnd := rand.New(rand.NewPCG(seed, 0))
	j := &jitter{most: most, values: make([]float64, length/(20*ms)+2)}
	for i := range j.values {
		j.values[i] = rnd.Float64()
	}
	return j
}

func (j *jitter) at(at time.Duration) time.Duration {
	i, rest := int(at/(20*ms)), float64(at%(20*ms))/float64(20*ms)
	return time.Duration(float64(j.most) * (j.values[i]*(1-rest) + j.values[i+1]*rest))
}

// arrivals is a stream of which each packet arrives at a time of its own.
type arrivals []time.Duration

func (a arrivals) count(at time.Duration) int {
	return sort.Search(len(a), func(i int) bool { return a[i] > at })
}

// through sends a packet each interval through a jitter that keeps their order.
func through(j *jitter, every, length time.Duration) (a arrivals) {
	latest := time.Duration(0)
	for at := time.Duration(0); at < length; at += every {
		latest = max(latest, at+j.at(at))
		a = append(a, latest)
	}
	return a
}

// next is when the first packet not before a time arrives.
func (a arrivals) next(at time.Duration) time.Duration {
	i, _ := slices.BinarySearch(a, at)
	return a[min(i, len(a)-1)]
}
