// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tick is the time between two rounds of a busy mover. It bounds the wake-ups to 2000 a
	// second and makes a packet late by at most as much.
	tick = 500 * time.Microsecond
	// burst is how many rounds in a row a mover may make sooner, when it was not busy before:
	// packets on a quiet line are not late.
	burst = 10
	// batch bounds the packets read in one round.
	batch = 256
	// idle is how long a mover without packets sleeps.
	idle = time.Hour
)

// A mover reads packets from one TUN device, holds each for its time, and writes it to the
// other. It lives on one thread, waits in ppoll, and shares nothing but its Direction.
type mover struct {
	*Direction
	in, out int
	poll    []unix.PollFd // the wake-up, then in
	epoch   time.Time
	due     time.Duration // of the next round, when busy

	s       *Spec
	tx      transmitter
	queue   ring // packets that wait for the transmitter
	waiting int  // their bytes
	limit   int  // how many of these there may be
	pipe    ring // packets on their way
	latest  time.Duration
	spare   [][]byte

	loss, shake *rand.Rand
	from, to    time.Duration // jitter at both ends of the current step
	stepEnd     time.Duration
}

func (d *Direction) run(in, out int) {
	defer close(d.doneC)
	// Never unlocked: the thread's priority and timer slack end with it.
	runtime.LockOSThread()
	// Both matter only for precision: a packet should leave in time on a busy machine too.
	unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)

	m := &mover{
		Direction: d, in: in, out: out,
		poll:  []unix.PollFd{{Fd: int32(d.wakeFD), Events: unix.POLLIN}, {Fd: int32(in), Events: unix.POLLIN}},
		epoch: time.Now(),
		shake: rand.New(rand.NewPCG(1, 2)),
	}
	for !d.stopped.Load() {
		if err := m.round(); err != nil {
			d.err = fmt.Errorf("link from %s: %w", d.name, err)
			return
		}
	}
}

func (m *mover) now() time.Duration { return time.Since(m.epoch) }

func (m *mover) round() error {
	now := m.now()
	if s := m.spec.Load(); s != m.s {
		m.follow(s, now)
	}
	m.transmit(now)
	if err := m.receive(now); err != nil {
		return err
	}
	m.transmit(now)
	m.deliver(now)
	m.queued.Store(int64(m.waiting))

	m.due = max(m.due, now-burst*tick) + tick
	pause(m.due - m.now())
	return m.wait(m.next() - m.now())
}

// follow makes a new Spec that of the packets in the queue and of those to come.
func (m *mover) follow(s *Spec, now time.Duration) {
	if m.s == nil || m.s.Seed != s.Seed {
		m.loss = rand.New(rand.NewPCG(s.Seed, 0x1055))
	}
	if s.Trace != nil && (m.s == nil || m.s.Trace != s.Trace) {
		m.tx = transmitter{start: now}
	}
	m.s, m.limit = s, s.queueBytes()
}

// receive takes packets from the device into the queue until there is none.
func (m *mover) receive(now time.Duration) error {
	for range batch {
		buf := m.take()
		size, err := unix.Read(m.in, buf)
		if err != nil {
			m.spare = append(m.spare, buf)
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				return nil
			}
			return fmt.Errorf("reading packet: %w", err)
		}
		limited := m.s.Rate > 0 || m.s.Trace != nil
		if limited && m.waiting > 0 && m.waiting+size > m.limit {
			m.dropQueue.Add(1)
			m.spare = append(m.spare, buf)
			continue
		}
		m.waiting += size
		m.queue.push(packet{buf[:size], now})
	}
	return nil
}

// transmit moves what has left the transmitter by now from the queue onto the way.
func (m *mover) transmit(now time.Duration) {
	for m.queue.n > 0 {
		p := m.queue.front()
		done, tx := m.tx.send(m.s, len(p.buf), p.at)
		if done > now {
			return
		}
		m.tx = tx
		m.waiting -= len(p.buf)
		m.propagate(m.queue.pop(), done)
	}
}

func (m *mover) propagate(p packet, at time.Duration) {
	if m.loss.Float64() < m.s.Loss {
		m.dropLoss.Add(1)
		m.spare = append(m.spare, p.buf)
		return
	}
	p.at = at + m.s.Delay
	if m.s.Reorder {
		p.at += time.Duration(m.shake.Float64() * float64(m.s.Jitter))
		m.latest = max(m.latest, p.at)
		m.pipe.insert(p)
		return
	}
	m.latest = max(m.latest, p.at+m.jitter(at))
	p.at = m.latest
	m.pipe.push(p)
}

// jitter is the addition to the delay at a moment.
func (m *mover) jitter(at time.Duration) time.Duration {
	if m.s.Jitter == 0 {
		return 0
	}
	if at >= m.stepEnd {
		m.from = m.to
		m.to = time.Duration(m.shake.Float64() * float64(m.s.Jitter))
		m.stepEnd = at + jitterStep
	}
	return m.to + time.Duration(float64(m.from-m.to)*float64(m.stepEnd-at)/float64(jitterStep))
}

// deliver writes what has arrived by now.
func (m *mover) deliver(now time.Duration) {
	for m.pipe.n > 0 && m.pipe.front().at <= now {
		p := m.pipe.pop()
		if m.blackhole.Load() || m.s.Largest > 0 && len(p.buf) > m.s.Largest {
			m.dropBlack.Add(1)
		} else if _, err := unix.Write(m.out, p.buf); err != nil {
			m.dropDown.Add(1)
		} else {
			m.packets.Add(1)
			m.bytes.Add(uint64(len(p.buf)))
		}
		m.spare = append(m.spare, p.buf)
	}
}

// next is when the next packet can be delivered. What leaves the queue before may well be
// moved late: it is computed to the nanosecond all the same.
func (m *mover) next() time.Duration {
	at := m.now() + idle
	if m.pipe.n > 0 {
		at = min(at, m.pipe.front().at)
	}
	if m.queue.n > 0 {
		p := m.queue.front()
		done, _ := m.tx.send(m.s, len(p.buf), p.at)
		at = min(at, done+m.s.Delay)
	}
	return at
}

// pause lets packets gather.
func pause(d time.Duration) {
	if d > 0 {
		ts := unix.NsecToTimespec(int64(d))
		unix.Nanosleep(&ts, nil) // a signal may end it: a round too soon does no harm
	}
}

// wait ends after d, when a packet can be read, or at a wake-up.
func (m *mover) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	ts := unix.NsecToTimespec(int64(d))
	if _, err := unix.Ppoll(m.poll, &ts, nil); err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil
		}
		return fmt.Errorf("waiting for packets: %w", err)
	}
	if m.poll[0].Revents != 0 {
		var b [8]byte
		unix.Read(m.wakeFD, b[:])
	}
	return nil
}

// take returns an empty buffer.
func (m *mover) take() []byte {
	if len(m.spare) == 0 {
		const size, count = 2048, 64
		slab := make([]byte, size*count)
		for i := range count {
			m.spare = append(m.spare, slab[i*size:(i+1)*size:(i+1)*size])
		}
	}
	buf := m.spare[len(m.spare)-1]
	m.spare = m.spare[:len(m.spare)-1]
	return buf[:cap(buf)]
}
