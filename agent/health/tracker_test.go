// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a time that tests move by hand.
type clock struct{ time.Time }

func newClock() *clock { return &clock{time.Unix(1_000_000, 0)} }

func (c *clock) pass(d time.Duration) time.Time {
	c.Time = c.Add(d)
	return c.Time
}

const ms = time.Millisecond

// known is a tracker that has been answered within rtt, n times.
func known(c *clock, n int, rtt time.Duration) *tracker {
	t := new(tracker)
	for range n {
		t.answer(c, rtt)
	}
	return t
}

// answer has a peer answer a probe within rtt.
func (t *tracker) answer(c *clock, rtt time.Duration) {
	t.measure(peer4.Addr(), rtt)
	t.answered(c.pass(rtt), c.Add(-rtt), peer4.Addr(), false)
}

func TestLost(t *testing.T) {
	const sentBefore = 250 * ms
	type loss struct {
		after                time.Duration
		condemned, receiving bool
	}
	tests := []struct {
		name    string
		patient bool
		losses  []loss
		want    Verdict
		reason  string
	}{
		{"two", false, []loss{{0, true, false}, {time.Second, true, false}}, Up, ""},
		{"three within a second", false, []loss{{0, true, false}, {300 * ms, true, false}, {300 * ms, true, false}}, Up, ""},
		{"three", false, []loss{{0, true, false}, {400 * ms, true, false}, {400 * ms, true, false}}, Down, "3 probes without an answer"},
		{"three of a modem that wakes", true, []loss{{0, true, false}, {time.Second, true, false}, {time.Second, true, false}}, Up, ""},
		{"four of a modem", true, []loss{{0, true, false}, {time.Second, true, false}, {time.Second, true, false}, {time.Second, true, false}}, Down, "4 probes without an answer"},
		{"three while something comes in", false, []loss{{0, true, true}, {time.Second, true, true}, {time.Second, true, true}}, Up, ""},
		{"four while something comes in", false, []loss{{0, true, true}, {time.Second, true, true}, {time.Second, true, true}, {time.Second, true, true}}, Up, ""},
		{"four while something comes in, for long", false, []loss{{0, true, true}, {time.Second, true, true}, {time.Second, true, true}, {3 * time.Second, true, true}}, Down, "4 probes without an answer"},
		{"three, nobody else is answered yet", false, []loss{{0, false, false}, {time.Second, false, false}, {time.Second, false, false}}, Up, ""},
		{"four, nobody else is answered", false, []loss{{0, false, false}, {time.Second, false, false}, {time.Second, false, false}, {time.Second, false, false}}, Degraded, "its probes are not answered"},
		{"the peer comes back to others first", false, []loss{{0, false, false}, {time.Second, false, false}, {time.Second, false, false}, {time.Second, false, false}, {time.Second, true, false}}, Up, ""},
		{"six, others are answered again", false, []loss{{0, false, false}, {time.Second, false, false}, {time.Second, false, false}, {time.Second, false, false}, {time.Second, true, false}, {time.Second, true, false}}, Down, "6 probes without an answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			tr := known(c, minSamples, 20*ms)
			tr.patient = tt.patient
			for _, l := range tt.losses {
				now := c.pass(l.after)
				tr.missed(now, now.Add(-sentBefore), l.condemned, l.receiving)
			}
			if h := tr.health(); h.Verdict != tt.want || h.Reason != tt.reason {
				t.Errorf("%v, %q, want %v, %q", h.Verdict, h.Reason, tt.want, tt.reason)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	tests := []struct {
		name    string
		patient bool
		samples int
		rtt     time.Duration
		gaps    []time.Duration
		later   time.Duration // after the gaps
		want    time.Duration
	}{
		{name: "fixed", samples: 20, rtt: 20 * ms, want: silenceFixed},
		{name: "cellular", patient: true, samples: 20, rtt: 50 * ms, want: silenceCellular},
		{name: "hardly known", samples: 4, rtt: 20 * ms, want: silenceUnknown},
		{name: "satellite", samples: 100, rtt: 600 * ms, want: 600 * ms},
		{name: "a gap", samples: 20, rtt: 20 * ms, gaps: []time.Duration{180 * ms}, want: 360 * ms},
		{name: "the longest of gaps", samples: 20, rtt: 20 * ms, gaps: []time.Duration{180 * ms, 300 * ms, 200 * ms}, want: 600 * ms},
		{name: "a gap of old", samples: 20, rtt: 20 * ms, gaps: []time.Duration{300 * ms}, later: gapMemory + 1, want: silenceFixed},
		{name: "an outage", samples: 20, rtt: 20 * ms, gaps: []time.Duration{3 * time.Second}, want: silenceFixed},
		{name: "a gap beside an outage", samples: 20, rtt: 20 * ms, gaps: []time.Duration{180 * ms, 3 * time.Second}, want: 360 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			tr := known(c, tt.samples, tt.rtt)
			tr.patient = tt.patient
			for _, g := range tt.gaps {
				tr.endured(c.pass(time.Second), g)
			}
			now := c.pass(tt.later)
			if got := tr.patience(now); got.Round(ms) != tt.want {
				t.Fatalf("patience %v, want %v", got, tt.want)
			}
			asked := tr.soon()
			tr.silent(now, tt.want-ms, asked)
			if tr.down {
				t.Error("dead before its time")
			}
			tr.silent(now, tt.want+ms, asked-ms)
			if tr.down {
				t.Error("dead before the probe could be answered")
			}
			tr.silent(now, tt.want+ms, asked)
			if !tr.down {
				t.Error("alive for ever")
			}
		})
	}
}

func TestSilenceOfWhoNeverAnswers(t *testing.T) {
	c := newClock()
	never := new(tracker)
	never.silent(c.Time, time.Minute, time.Minute)
	noMore := known(c, 20, 20*ms)
	for range lostInARow + 1 {
		noMore.missed(c.pass(time.Second), c.Add(-time.Second), false, false)
	}
	noMore.silent(c.Time, time.Minute, time.Minute)
	for name, tr := range map[string]*tracker{"never": never, "no more": noMore} {
		if tr.down {
			t.Errorf("%s answered, and dead for it", name)
		}
	}
}

// Each death makes the path prove itself for longer, until it has lived for
// long without one.
func TestProof(t *testing.T) {
	c := newClock()
	tr := known(c, minSamples, 20*ms)
	proven := func() time.Duration {
		start := c.Time
		for tr.down {
			tr.answered(c.pass(250*ms), c.Add(-20*ms), peer4.Addr(), false)
			if c.Sub(start) > time.Hour {
				t.Fatal("never trusted again")
			}
		}
		return c.Sub(start) - 250*ms // the first answer is where it begins
	}
	var got []time.Duration
	for range 9 {
		tr.gone(c.pass(time.Second))
		tr.gone(c.Time) // one death, told twice
		got = append(got, proven())
	}
	s := time.Second
	if d := cmp.Diff([]time.Duration{2 * s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s, 60 * s}, got); d != "" {
		t.Errorf("proofs (-want +got):\n%s", d)
	}
	c.pass(flapMemory + s)
	tr.gone(c.Time)
	if p := proven(); p != proof {
		t.Errorf("proof after a long life %v, want %v", p, proof)
	}
	// A loss begins it anew.
	tr.gone(c.Time)
	tr.answered(c.pass(s), c.Time, peer4.Addr(), false)
	tr.missed(c.pass(s), c.Time, true, false)
	tr.answered(c.pass(s), c.Time, peer4.Addr(), false)
	if h := tr.health(); h.Verdict != Down || h.Reason != "was away, and has to prove itself" {
		t.Errorf("with a loss: %+v", h)
	}
	tr.answered(c.pass(proof), c.Time, peer4.Addr(), false)
	if h := tr.health(); h.Verdict == Down {
		t.Errorf("after the proof: %+v", h)
	}
}

// A death that was none makes the path patient: for an hour, longer each time,
// and a week later for an hour again.
func TestAcquitted(t *testing.T) {
	tests := []struct {
		name string
		die  func(*tracker, *clock)
		sent time.Duration // before the death
		took time.Duration
		want bool
	}{
		{"silent, answered late", nil, 50 * ms, 400 * ms, true},
		{"lost, answered late", func(tr *tracker, c *clock) {
			for range lostInARow + 1 {
				tr.missed(c.pass(time.Second), c.Add(-500*ms), true, false)
			}
		}, time.Second, 2 * time.Second, true},
		{"answered to a later probe", nil, -50 * ms, 20 * ms, false},
		{"answered after an outage", nil, 50 * ms, maxStall + ms, false},
		{"was away", func(tr *tracker, c *clock) { tr.gone(c.Time) }, 50 * ms, 400 * ms, false},
		{"silent, then away", func(tr *tracker, c *clock) {
			tr.silent(c.Time, time.Second, time.Second)
			tr.gone(c.Time)
		}, 50 * ms, 400 * ms, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			tr := known(c, minSamples, 20*ms)
			if tt.die == nil {
				tr.silent(c.Time, time.Second, time.Second)
			} else {
				tt.die(tr, c)
			}
			if !tr.down {
				t.Fatal("lives")
			}
			sent := c.Add(-tt.sent)
			c.Time = sent.Add(tt.took)
			tr.answered(c.Time, sent, peer4.Addr(), true)
			if got := tr.stalls(c.Time); got != tt.want {
				t.Fatalf("patient: %v", got)
			}
			tr.answered(c.pass(ms), c.Add(-30*ms), peer4.Addr(), true) // to another of those probes
			if tr.bearing > stallMemory {
				t.Error("one death counts twice")
			}
		})
	}

	c := newClock()
	tr := known(c, minSamples, 20*ms)
	var memory []time.Duration
	patient := func() {
		for !tr.down {
			tr.silent(c.Time, 10*time.Second, 10*time.Second)
		}
		tr.answered(c.pass(200*ms), c.Add(-300*ms), peer4.Addr(), true)
		start := c.Time
		for tr.down {
			tr.answered(c.pass(time.Second), c.Time, peer4.Addr(), false)
		}
		for tr.patience(c.Time) == silenceCellular {
			c.pass(time.Minute)
		}
		memory = append(memory, c.Sub(start).Round(time.Hour)/time.Hour)
	}
	for range 7 {
		patient()
	}
	c.pass(stallHistory)
	patient()
	if d := cmp.Diff([]time.Duration{1, 2, 4, 8, 16, 24, 24, 1}, memory); d != "" {
		t.Errorf("hours of patience (-want +got):\n%s", d)
	}
}

// A path that was away and finds that nobody is answered is trusted too.
func TestProofWithoutAnswers(t *testing.T) {
	c := newClock()
	tr := new(tracker)
	tr.gone(c.Time)
	for range 10 {
		tr.missed(c.pass(time.Second), c.Add(-time.Second), false, false)
	}
	if h := tr.health(); h.Verdict != Degraded {
		t.Errorf("%+v", h)
	}
}

func TestFigures(t *testing.T) {
	c := newClock()
	tr := new(tracker)
	if h := tr.health(); h != (Health{}) {
		t.Errorf("%+v", h)
	}
	// RFC 6298 section 2.2 and 2.3, by hand.
	tr.answer(c, 100*ms)
	if h := tr.health(); h.RTT != 100*ms || h.Jitter != 50*ms {
		t.Errorf("after one: %+v", h)
	}
	tr.answer(c, 180*ms)
	if h := tr.health(); h.RTT != 110*ms || h.Jitter != 57500*time.Microsecond {
		t.Errorf("after two: %+v", h)
	}
	// A first one that took much longer than the next is forgotten.
	slow := known(newClock(), 1, 1200*ms)
	slow.answer(c, 20*ms)
	if h := slow.health(); h.RTT != 20*ms || h.Jitter != 10*ms {
		t.Errorf("after a slow first one: %+v", h)
	}
	// So are several that waited for the same.
	waited := new(tracker)
	for rtt := 2 * time.Second; rtt > 0; rtt -= urgentInterval {
		waited.answer(c, rtt)
	}
	waited.answer(c, 20*ms)
	if h := waited.health(); h.RTT != 20*ms || h.Jitter != 10*ms {
		t.Errorf("after slow ones: %+v", h)
	}
	// Of the last 20, one was lost; another only came late.
	for range 16 {
		tr.answer(c, 100*ms)
	}
	tr.missed(c.pass(time.Second), c.Time, true, false)
	tr.missed(c.pass(time.Second), c.Time, true, false)
	tr.answered(c.pass(time.Second), c.Add(-2*time.Second), peer4.Addr(), true)
	if h := tr.health(); h.Loss != 1./20 || h.Verdict != Up || tr.lost != 0 {
		t.Errorf("%+v, %d lost in a row", h, tr.lost)
	}
	tr.missed(c.pass(time.Second), c.Time, true, false)
	if h := tr.health(); h.Loss != 0.1 || h.Verdict != Degraded || h.Reason != "10 % of the probes are lost" {
		t.Errorf("%+v", h)
	}
	for range window {
		tr.answer(c, 100*ms)
	}
	if h := tr.health(); h.Loss != 0 || h.Verdict != Up {
		t.Errorf("%+v", h)
	}
}

func TestInterval(t *testing.T) {
	lost := func(n int, patient, others bool) *tracker {
		c := newClock()
		tr := known(c, minSamples, 20*ms)
		tr.patient = patient
		for range n {
			tr.missed(c.pass(2*time.Second), c.Add(-time.Second), others, false)
		}
		return tr
	}
	well := func() *tracker { return known(newClock(), minSamples, 20*ms) }
	proving := lost(5, false, true)
	proving.answered(newClock().Time, newClock().Time, peer4.Addr(), true)
	tests := []struct {
		name                 string
		t                    *tracker
		busy, suspect, fresh bool
		want                 time.Duration
	}{
		{"idle", well(), false, false, false, idleInterval},
		{"new", new(tracker), false, false, true, urgentInterval},
		{"busy", well(), true, false, false, busyInterval},
		{"suspect", well(), true, true, false, suspectInterval},
		{"suspect, was never answered", new(tracker), true, true, false, busyInterval},
		{"a loss", lost(1, false, true), true, false, false, urgentInterval},
		{"dead", lost(5, false, true), false, false, false, deadInterval},
		{"dead and suspect", lost(5, false, true), true, true, false, deadInterval},
		{"proving", proving, false, false, false, urgentInterval},
		{"alone", lost(5, false, false), true, true, false, deadInterval},
		{"a modem, alone", lost(5, true, false), false, false, false, deadInterval},
		{"a modem, alone for long", lost(100, true, false), false, false, false, patientDeadInterval},
		{"a modem, dead for long", lost(100, true, true), false, false, false, patientDeadInterval},
	}
	for _, tt := range tests {
		if got := tt.t.interval(tt.busy, tt.suspect, tt.fresh); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
