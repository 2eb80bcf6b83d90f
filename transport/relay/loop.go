// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"braid/transport/call"
	"braid/transport/tick"
)

const (
	mostLoops = 8
	batch     = 128 // events
	// slack is the part of an idle limit by which it may be late.
	slack = 64
)

// loop moves the bytes of its pairs. It has a goroutine while there are any.
type loop struct {
	epoll  int
	poller *os.File        // the same, which the runtime has an eye on
	events syscall.RawConn // the same
	waker  int             // an eventfd
	timer  tick.Timer
	start  time.Time

	mu      sync.Mutex
	pairs   map[int32]*Pair
	last    int32 // id
	aborted []*Pair
	running bool

	// Of the goroutine alone.
	now     time.Duration     // since start, when the last events came
	until   time.Duration     // when the timer wakes it
	found   []unix.EpollEvent // room for them
	ready   []*Pair           // have something to do now
	stepped []*Pair           // had it before
	bulk    map[*flow]struct{}
	ticked  time.Duration
	holds   map[*flow]struct{}
	expiry  time.Duration // no pair is idle for too long before
	blocks  blocks
	pipes   pipes
}

// wakerID is that of no pair: of what is there to wake the loop.
const wakerID = 0

// The loops, made when they are first needed.
var (
	loops [mostLoops]struct {
		once sync.Once
		loop *loop
		err  error
	}
	turns atomic.Uint32
)

// next is the loop whose turn it is to get a pair.
func next() (*loop, error) {
	i := int(turns.Add(1)) % min(runtime.GOMAXPROCS(0), mostLoops)
	s := &loops[i]
	s.once.Do(func() { s.loop, s.err = newLoop() })
	return s.loop, s.err
}

func newLoop() (*loop, error) {
	l := &loop{start: time.Now(), pairs: make(map[int32]*Pair), found: make([]unix.EpollEvent, batch),
		bulk: make(map[*flow]struct{}), holds: make(map[*flow]struct{})}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("creating epoll: %w", err)
	}
	// A goroutine that waits in epoll_wait keeps a thread, and the runtime's monitor
	// busy. The runtime's own poller can wait for an epoll as it does for a socket.
	if err := unix.SetNonblock(l.epoll, true); err != nil {
		return nil, fmt.Errorf("creating epoll: %w", err)
	}
	l.poller = os.NewFile(uintptr(l.epoll), "epoll")
	if l.events, err = l.poller.SyscallConn(); err != nil {
		return nil, fmt.Errorf("creating epoll: %w", err)
	}
	if err := l.poller.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("waiting for epoll: %w", err)
	}
	if l.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("creating eventfd: %w", err)
	}
	if l.timer, err = tick.NewTimer(); err != nil {
		return nil, err
	}
	for _, fd := range []int{l.waker, l.timer.FD} {
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakerID}); err != nil {
			return nil, fmt.Errorf("adding to epoll: %w", err)
		}
	}
	return l, nil
}

// add gives the loop a pair. What its sockets are ready for is told by events.
func (l *loop) add(p *Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.last++; l.last == wakerID || l.pairs[l.last] != nil; l.last++ {
	}
	p.id = l.last
	p.last = time.Since(l.start)
	l.pairs[p.id] = p
	p.added = true
	if p.aborted {
		l.abortLocked(p)
	}
	for i := range p.ends {
		if err := p.listen(i, unix.EPOLL_CTL_ADD, unix.EPOLLIN|besides); err != nil {
			l.abortLocked(p)
		}
	}
	if !l.running {
		l.running = true
		go l.run()
	}
}

// besides is what is listened to beside what has come.
const besides = unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// listen has the events of one of the pair's sockets be told.
func (p *Pair) listen(i, op int, events uint32) error {
	return call.Listen(p.loop.epoll, op, p.ends[i].fd, unix.EpollEvent{Events: events, Fd: p.id, Pad: int32(i)})
}

// abort ends a pair, unless it has ended.
func (l *loop) abort(p *Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !p.added:
		p.aborted = true // add has it ended
	case l.pairs[p.id] == p:
		l.abortLocked(p)
	}
}

func (l *loop) abortLocked(p *Pair) {
	l.aborted = append(l.aborted, p)
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1) // of 2^64, and nobody takes it back
	_, _ = unix.Write(l.waker, one[:])
}

// remove forgets a pair that is over.
func (l *loop) remove(p *Pair) {
	for i := range p.flows {
		delete(l.bulk, &p.flows[i])
		delete(l.holds, &p.flows[i])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p.id)
}

// run has the runtime's poller wait within one call, which keeps what comes while
// the loop is at work: nothing has to be looked for before it waits.
func (l *loop) run() {
	l.expiry = 0
	_ = l.events.Read(l.work) // the descriptor is ours, and never closed
}

// work does what there is to do, and says whether there are no pairs any more.
func (l *loop) work(epoll uintptr) (over bool) {
	for {
		found := l.look(int(epoll))
		l.now = time.Since(l.start)
		for _, p := range l.gather(found) {
			p.end(net.ErrClosed)
		}
		l.ready, l.stepped = l.stepped[:0], l.ready
		for i, p := range l.stepped {
			l.stepped[i] = nil
			p.queued = false
			p.step()
		}
		l.tick()
		l.expire()
		switch {
		case l.idle():
			return true
		case len(found) < len(l.found) && len(l.ready) == 0 && l.sleeps():
			return false
		}
	}
}

// idle says that there are no pairs, and that the goroutine is to end.
func (l *loop) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pairs) > 0 {
		return false
	}
	l.aborted = nil
	l.running = false
	l.closeFree()
	return true
}

// gather notes what events tell and makes the pairs ready that they are of. It
// returns those that are to be ended.
func (l *loop) gather(events []unix.EpollEvent) (aborted []*Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		e := &events[i]
		if p := l.pairs[e.Fd]; p != nil {
			if !p.seen {
				p.seen = true
				l.expect(min(p.remaining(), p.keep()))
			}
			p.event(int(e.Pad), e.Events)
			l.again(p)
		}
	}
	aborted, l.aborted = l.aborted, nil
	return aborted
}

// event notes what one of the pair's sockets is ready for.
func (p *Pair) event(i int, what uint32) {
	e := &p.ends[i]
	const failed = unix.EPOLLERR | unix.EPOLLHUP
	if what&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0 {
		e.readable = true
	}
	if what&(unix.EPOLLOUT|failed) != 0 {
		e.writable = true
	}
	// With nothing left to be read, only this tells that it has been reset.
	if what&failed != 0 && p.flows[i].ended && !p.flows[1-i].closed {
		e.gone = true
	}
}

// again has the pair make a step.
func (l *loop) again(p *Pair) {
	if !p.queued {
		p.queued = true
		l.ready = append(l.ready, p)
	}
}

// tick looks at what is in bulk, and at what was held back.
func (l *loop) tick() {
	for f := range l.holds {
		if f.held <= l.now {
			delete(l.holds, f)
			f.pair.step()
		}
	}
	if len(l.bulk) == 0 || l.now-l.ticked < bulkTick {
		return
	}
	l.ticked = l.now
	for f := range l.bulk {
		if f.listens() {
			f.from.readable = true
			f.pair.step()
		}
	}
}

// hold has a flow make a step when what it has is not held back any more.
func (l *loop) hold(f *flow) { l.holds[f] = struct{}{} }

// expect has the pairs looked at after a time.
func (l *loop) expect(d time.Duration) { l.expiry = min(l.expiry, l.now+d) }

// expire ends the pairs that have been idle for too long, and has the others
// kept mapped, and try again what they could not write.
func (l *loop) expire() {
	if l.now < l.expiry {
		return
	}
	l.mu.Lock()
	all := make([]*Pair, 0, len(l.pairs))
	for _, p := range l.pairs {
		all = append(all, p)
	}
	l.mu.Unlock()
	least := DefaultIdle
	for _, p := range all {
		if p.remaining() <= 0 {
			p.end(ErrIdle)
			continue
		}
		least = min(least, max(p.remaining(), p.limit()/slack), p.keep())
		for i := range p.flows {
			p.flows[i].retry()
		}
	}
	l.expiry = l.now + least
}

// look finds the events that have come.
func (l *loop) look(epoll int) []unix.EpollEvent {
	n, err := call.Events(epoll, l.found)
	if err != nil {
		panic(fmt.Sprintf("waiting for events: %v", err)) // the descriptor is ours
	}
	return l.found[:n]
}

// sleeps says whether there is nothing to do until an event comes, or the timer.
func (l *loop) sleeps() bool {
	until := l.deadline()
	if until <= l.now {
		return false
	}
	// Where it is set to a time long before, it may wake the loop for nothing: that is
	// rarer than to set it anew for each pair.
	if until != l.until && !(l.until < until && l.until-l.now > time.Second) {
		l.until = until
		l.timer.Set(max(1, until-time.Since(l.start)), 0)
	}
	return true
}

// deadline is when there is something to do without any event.
func (l *loop) deadline() time.Duration {
	until := l.expiry
	for f := range l.holds {
		until = min(until, f.held)
	}
	for f := range l.bulk {
		if f.listens() {
			until = min(until, l.ticked+bulkTick)
			break
		}
	}
	return until
}
