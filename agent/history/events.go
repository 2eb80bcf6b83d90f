// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"sync"
	"time"

	"braid/agent/report"
)

// MaxEvents is how many events are remembered.
const MaxEvents = 200

// Events remembers the last events; they are numbered from 1. The zero value
// is ready; it knows no clock.
type Events struct {
	mu   sync.Mutex
	last int
	ring [MaxEvents]told // event N at N % MaxEvents
}

type told struct {
	at    time.Time
	event report.Event
}

// Add remembers an event.
func (e *Events) Add(now time.Time, event report.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	event.Number = e.last
	e.ring[e.last%MaxEvents] = told{now, event}
}

// Last is the number of the last event, 0 if there was none.
func (e *Events) Last() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// Report returns the events from number since on, as far as they are
// remembered, oldest first.
func (e *Events) Report(now time.Time, since int) report.Events {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := report.Events{Events: []report.Event{}, Next: e.last + 1}
	for n := max(since, e.last-MaxEvents+1, 1); n <= e.last; n++ {
		t := e.ring[n%MaxEvents]
		t.event.Age = int(now.Sub(t.at).Seconds())
		r.Events = append(r.Events, t.event)
	}
	return r
}
