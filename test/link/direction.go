// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Direction carries packets one way. Its methods may be called at any time, from anywhere.
type Direction struct {
	name   string
	wakeFD int // eventfd, wakes the mover
	doneC  chan struct{}
	err    error // of the mover, to be read after doneC

	mu   sync.Mutex // serializes Change
	spec atomic.Pointer[Spec]

	stopped   atomic.Bool
	blackhole atomic.Bool

	packets, bytes                           atomic.Uint64
	queued                                   atomic.Int64
	dropQueue, dropLoss, dropBlack, dropDown atomic.Uint64
}

func newDirection(name string, s Spec) (*Direction, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("link from %s: %w", name, err)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("creating eventfd: %w", err)
	}
	d := &Direction{name: name, wakeFD: fd, doneC: make(chan struct{})}
	d.spec.Store(&s)
	return d, nil
}

// Spec is what the direction follows now.
func (d *Direction) Spec() Spec { return *d.spec.Load() }

// Change lets f edit the Spec. The new one holds at once, also for packets that wait in the
// queue; those on their way keep their time of arrival. A Spec that makes no sense is refused.
func (d *Direction) Change(f func(*Spec)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := *d.spec.Load()
	f(&s)
	if err := s.check(); err != nil {
		return fmt.Errorf("link from %s: %w", d.name, err)
	}
	d.spec.Store(&s)
	d.wake()
	return nil
}

// Blackhole makes every packet that would arrive from now on vanish, or no longer.
func (d *Direction) Blackhole(on bool) { d.blackhole.Store(on) }

// Counters are those since the start.
func (d *Direction) Counters() Counters {
	return Counters{
		Packets: d.packets.Load(),
		Bytes:   d.bytes.Load(),
		Queued:  d.queued.Load(),
		Drops: Drops{
			Queue:     d.dropQueue.Load(),
			Loss:      d.dropLoss.Load(),
			Blackhole: d.dropBlack.Load(),
			Down:      d.dropDown.Load(),
		},
	}
}

func (d *Direction) wake() {
	// Full means that a wake-up is pending already.
	unix.Write(d.wakeFD, binary.NativeEndian.AppendUint64(nil, 1))
}

func (d *Direction) stop() error {
	d.stopped.Store(true)
	d.wake()
	<-d.doneC
	unix.Close(d.wakeFD)
	return d.err
}
