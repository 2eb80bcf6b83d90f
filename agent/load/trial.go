// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"time"
)

const (
	// A trial lasts trialTime, of which the first trialSettle is settling, as
	// it is after the WAN has been held back. It is made when the other WANs
	// have been full for trialAfter, because it can cost as much as it shows:
	// a short transfer shall not pay for it. It is made again, after it has
	// failed, when retry, doubling up to maxRetry, has passed.
	trialAfter  = 20 * time.Second
	trialTime   = 3 * time.Second
	trialSettle = 1500 * time.Millisecond
	retry       = 2 * time.Minute
	maxRetry    = 30 * time.Minute
	// leastBefore is how many rates without the WAN are to be known.
	leastBefore = 4
	// worth is what the sum of rates has to grow by.
	worth = 1.02
	// over is the part of the former sum below which the traffic has ended:
	// that says nothing of the WAN.
	over = 0.1
)

// trial is the state of a WAN that is much slower than the others.
type trial struct {
	_        [0]func() // nobody compares it
	held     time.Time // back, since; zero: is not
	began    time.Time // a trial runs
	passed   bool
	failures int
	next     time.Time // not before
	before   average   // sum of rates without it
	during   average   // and with it
	reason   string
}

// decide holds a slow WAN back until a trial shows that it is worth it. Full
// is how long the others have been; sum is of all rates.
func (t *trial) decide(now time.Time, slow bool, full time.Duration, sum float64) Use {
	switch {
	case !slow:
		t.recover(now)
		return Use{}
	case t.passed:
		return Use{}
	case !t.began.IsZero():
		return t.run(now, sum)
	case t.held.IsZero():
		t.hold(now)
	case full < joinAfter:
		t.before = average{} // of another time
	case now.Sub(t.held) >= trialSettle:
		t.before.add(sum)
	}
	if t.before.n < leastBefore || full < trialAfter || now.Before(t.next) {
		if t.reason == "" {
			t.reason = "its round trip is much longer than the others', on trial when they are full"
		}
		return Use{Held: true, Reason: t.reason}
	}
	t.began, t.during = now, average{}
	return t.run(now, sum)
}

// run goes on with a trial.
func (t *trial) run(now time.Time, sum float64) Use {
	if now.Sub(t.began) > trialSettle {
		t.during.add(sum)
	}
	if now.Sub(t.began) < trialTime {
		return Use{Reason: "on trial"}
	}
	with, without := t.during.value(), t.before.value()
	switch {
	case with > worth*without:
		t.began, t.passed = time.Time{}, true
		return Use{}
	case sum >= over*without:
		t.next = now.Add(min(retry<<min(t.failures, 8), maxRetry))
		t.failures++
		t.reason = fmt.Sprintf("costs more than it brings: %.1f Mbit/s with it, %.1f without", with/1e6, without/1e6)
	}
	t.hold(now)
	return Use{Held: true, Reason: t.reason}
}

func (t *trial) hold(now time.Time) {
	t.held, t.began, t.before = now, time.Time{}, average{}
}

// stop ends a trial that is under way without a result.
func (t *trial) stop(now time.Time) {
	if !t.began.IsZero() {
		t.hold(now)
	}
}

// recover forgets all but a failure of late: a round trip to and fro around
// the limit is not to have the WAN tried each time.
func (t *trial) recover(now time.Time) {
	if now.Before(t.next) {
		*t = trial{failures: t.failures, next: t.next}
		return
	}
	*t = trial{}
}

// average is the mean of the last values.
type average struct {
	values [8]float64
	n      int
}

func (a *average) add(v float64) {
	a.values[a.n%len(a.values)] = v
	a.n++
}

func (a *average) value() float64 {
	n := min(a.n, len(a.values))
	if n == 0 {
		return 0
	}
	var sum float64
	for _, v := range a.values[:n] {
		sum += v
	}
	return sum / float64(n)
}
