// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"time"
)

// defaultQueue is the queue of a Spec that names none.
const defaultQueue = 100 * time.Millisecond

// jitterStep is the time in which the jitter moves from one random value to the next.
const jitterStep = 20 * time.Millisecond

// A Spec describes one direction of a link. The zero Spec is a perfect line.
type Spec struct {
	// Rate in bit/s of IP packets; 0 is unlimited.
	Rate int64
	// Trace, when not nil, drives the transmitter instead of Rate.
	Trace *Trace
	// Delay is the one-way propagation delay.
	Delay time.Duration
	// Jitter is the most that is added to Delay. The addition wanders between 0 and Jitter, one
	// random value each 20 ms, and packets keep their order, as on a cellular link.
	Jitter time.Duration
	// Reorder draws the jitter of each packet by itself, so that packets overtake one another.
	Reorder bool
	// Loss is the probability, 0 to 1, with which a packet is lost after it has been sent.
	Loss float64
	// Queue is the longest wait before the transmitter, at Rate or at the mean rate of Trace;
	// 0 is 100 ms. A packet that would have to wait longer is dropped.
	Queue time.Duration
	// QueueBytes, when not 0, limits the queue instead of Queue.
	QueueBytes int
	// Largest is the size in bytes above which packets are swallowed; 0: none are.
	Largest int
	// Seed determines which packets are lost: the same seed loses the same ones.
	Seed uint64
}

func (s *Spec) check() error {
	switch {
	case s.Rate < 0:
		return fmt.Errorf("rate %d is negative", s.Rate)
	case s.Delay < 0, s.Jitter < 0, s.Queue < 0, s.QueueBytes < 0:
		return fmt.Errorf("delay %v, jitter %v, queue %v or %d bytes is negative", s.Delay, s.Jitter, s.Queue, s.QueueBytes)
	case s.Largest < 0:
		return fmt.Errorf("largest packet of %d bytes is negative", s.Largest)
	case !(s.Loss >= 0 && s.Loss <= 1):
		return fmt.Errorf("loss %v is not within 0 and 1", s.Loss)
	}
	return nil
}

// queueBytes is what the queue holds when the transmitter is not unlimited.
func (s *Spec) queueBytes() int {
	if s.QueueBytes > 0 {
		return s.QueueBytes
	}
	q, rate := s.Queue, s.Rate
	if q == 0 {
		q = defaultQueue
	}
	if s.Trace != nil {
		rate = s.Trace.Rate()
	}
	return int(float64(rate) / 8 * q.Seconds())
}

// Counters are those of one direction since its start.
type Counters struct {
	Packets, Bytes uint64 // delivered
	Queued         int64  // bytes that wait for the transmitter now
	Drops          Drops
}

// Drops are packets that were not delivered, by reason.
type Drops struct {
	Queue     uint64 // the queue was full
	Loss      uint64 // lost at random, as Spec.Loss asks
	Blackhole uint64 // swallowed, be it for their size
	Down      uint64 // the receiving device was down
}
