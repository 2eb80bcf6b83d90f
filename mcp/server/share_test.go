// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/heap"
	"math"
	"testing"
	"time"
)

// Where the virtual time comes by rounding to when a busy client will have had all, it is
// one of the busy still, once.
func TestShareRounding(t *testing.T) {
	now := time.Now()
	s := share{rate: 1, virtual: 1e9, last: now}
	a := &account{finish: math.Nextafter(s.virtual, 2*s.virtual)}
	heap.Push(&s.busy, a)
	s.holdLocked(a, 10, now.Add(100*time.Nanosecond))
	if len(s.busy) != 1 || a.at != 0 || !a.busy {
		t.Fatalf("%d are busy, the client at %d", len(s.busy), a.at)
	}
	if s.holdLocked(a, 10, now.Add(time.Minute)); len(s.busy) != 1 || !a.busy {
		t.Errorf("%d are busy after a minute", len(s.busy))
	}
}
