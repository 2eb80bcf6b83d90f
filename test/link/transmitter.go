// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import "time"

// A transmitter is the state of the bottleneck: what it has sent, not what it will send. Times
// count from the start of the mover.
type transmitter struct {
	free time.Duration // at a rate: when the last packet had left

	start time.Duration // on a trace: when the trace began
	slot  int64         // on a trace: the opportunity in use, counted over all repetitions
	used  int           // on a trace: bytes of it that are gone
}

// send tells when a packet of n bytes that has waited since at will have left, and the state
// of the transmitter thereafter.
func (t transmitter) send(s *Spec, n int, at time.Duration) (time.Duration, transmitter) {
	if s.Trace != nil {
		return t.sendOnTrace(s.Trace, n, max(at, t.start))
	}
	t.free = max(t.free, at)
	if s.Rate > 0 {
		t.free += time.Duration(int64(n) * 8 * int64(time.Second) / s.Rate)
	}
	return t.free, t
}

func (t transmitter) sendOnTrace(tr *Trace, n int, at time.Duration) (time.Duration, transmitter) {
	if tr.time(t.slot) < at-t.start { // missed: an opportunity does not wait
		t.slot, t.used = tr.next(at-t.start), 0
	}
	for n > slotBytes-t.used {
		n -= slotBytes - t.used
		t.slot, t.used = t.slot+1, 0
	}
	done := t.start + tr.time(t.slot)
	if t.used += n; t.used == slotBytes {
		t.slot, t.used = t.slot+1, 0
	}
	return done, t
}
