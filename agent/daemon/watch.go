// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"time"

	"braid/agent/load"
	"braid/agent/netstate"
	"braid/transport/tick"
)

// beat is how often the packet filter hears from us and the kernel is
// looked over for what others have done to our part of it.
const beat = time.Second

// watch counts what devices carry for all who want to know, and has the loop turn
// each beat. It is all that an agent at rest is woken for: a wake-up costs more than
// what is done at it.
func (l *loop) watch(ctx context.Context) error {
	ticker, err := tick.NewTicker(ctx)
	if err != nil {
		return err
	}
	defer ticker.Close()
	var counters netstate.Counters
	start := time.Now()
	measured, beaten := start, start // the loop has just turned
	next := load.Interval
	for {
		ticker.Set(next)
		if err := ticker.Wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now := time.Now()
		l.pulse.hold(now)
		carried := counters.Traffic()
		next = l.health.Look(now, carried)
		if due(now, &measured, load.Interval) && l.meter.Measure(now, carried) {
			hint(l.heldC)
		}
		if due(now, &beaten, beat) {
			hint(l.beatC)
		}
	}
}

// early is what a tick may come before its time and count.
const early = 10 * time.Millisecond

// due says whether an interval has passed since the last time that it had.
func due(now time.Time, last *time.Time, interval time.Duration) bool {
	next := last.Add(interval)
	if now.Before(next.Add(-early)) {
		return false
	}
	if now.Sub(next) > interval { // nobody makes up for what was missed
		next = now
	}
	*last = next
	return true
}

func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
