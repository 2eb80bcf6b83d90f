// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/config"
)

const (
	ms   = time.Millisecond
	mbit = 1e6
)

// scene drives a Balancer through simulated time.
type scene struct {
	t       *testing.T
	b       Balancer
	now     time.Time
	samples []Sample
	uses    map[string]Use
	log     []string // the names of those held, each time they change
}

func newScene(t *testing.T, samples ...Sample) *scene {
	return &scene{t: t, now: time.Unix(1_000_000, 0), samples: samples}
}

func (s *scene) of(wan string) *Sample {
	for i := range s.samples {
		if s.samples[i].WAN == wan {
			return &s.samples[i]
		}
	}
	s.t.Fatalf("no WAN %s", wan)
	return nil
}

// pass updates for a time; each, if given, sets the samples before.
func (s *scene) pass(d time.Duration, each ...func()) {
	for ; d > 0; d -= Interval {
		s.now = s.now.Add(Interval)
		for _, f := range each {
			f()
		}
		s.uses = s.b.Update(s.now, s.samples)
		var held []string
		for _, v := range s.samples {
			if s.uses[v.WAN].Held {
				held = append(held, v.WAN)
			}
			if v.Role == config.RolePrimary && s.uses[v.WAN].Held {
				s.t.Fatalf("the primary is held: %+v", s.uses)
			}
			if s.uses[v.WAN].Held && s.uses[v.WAN].Reason == "" {
				s.t.Fatalf("held without a reason: %+v", s.uses)
			}
		}
		if now := fmt.Sprint(held); len(s.log) == 0 || s.log[len(s.log)-1] != now {
			s.log = append(s.log, now)
		}
	}
}

// until updates until a WAN is held or not, and says how long that took.
func (s *scene) until(wan string, held bool, most time.Duration, each ...func()) time.Duration {
	s.t.Helper()
	start := s.now
	for s.uses[wan].Held != held {
		s.pass(Interval, each...)
		if s.now.Sub(start) > most {
			s.t.Fatalf("%s held is not %v after %v: %+v", wan, held, most, s.uses)
		}
	}
	return s.now.Sub(start)
}

func (s *scene) held(want ...string) {
	s.t.Helper()
	var got []string
	for _, v := range s.samples {
		if s.uses[v.WAN].Held {
			got = append(got, v.WAN)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		s.t.Errorf("held (-want +got):\n%s%+v", d, s.uses)
	}
}

func TestOverflow(t *testing.T) {
	for _, learned := range []bool{false, true} {
		t.Run(fmt.Sprintf("learned=%v", learned), func(t *testing.T) {
			s := newScene(t,
				Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 20 * ms, RateDown: 50 * mbit, RateUp: 10 * mbit},
				Sample{WAN: "lte", Role: config.RoleOverflow, RTT: 60 * ms},
				Sample{WAN: "spare", Role: config.RoleBackup, RTT: 900 * ms})
			fibre := s.of("fibre")
			if learned {
				fibre.RateDown, fibre.RateUp = 0, 0
				fibre.RX, fibre.TX = 50*mbit, 10*mbit
				s.pass(2 * time.Second)
				fibre.RX, fibre.TX = 0, 0
				s.pass(20 * time.Second)
			}
			s.pass(time.Second)
			s.held("lte")
			fibre.RX = 40 * mbit
			s.pass(10 * time.Second)
			s.held("lte")
			fibre.RX = 45 * mbit
			if d := s.until("lte", false, time.Minute); d != joinAfter+Interval {
				t.Errorf("joined after %v", d)
			}
			fibre.RX = 35 * mbit // neither full nor much room
			s.pass(time.Minute)
			s.held()
			fibre.RX = 30 * mbit
			s.pass(9 * time.Second)
			fibre.RX = 45 * mbit
			s.pass(Interval)
			fibre.RX = 30 * mbit
			if d := s.until("lte", true, time.Minute); d != leaveAfter+Interval {
				t.Errorf("left after %v", d)
			}
			fibre.RX, fibre.TX = 0, 9*mbit // full in the other direction
			if d := s.until("lte", false, time.Minute); d != joinAfter+Interval {
				t.Errorf("joined after %v of upload", d)
			}
		})
	}
}

// An agent that starts while the lines are full sees their queues, and does not
// take a line for a slow one by the first of them.
func TestStartsFull(t *testing.T) {
	s := newScene(t,
		Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 20 * ms, RX: 50 * mbit},
		Sample{WAN: "lte", Role: config.RoleBond, RTT: 300 * ms, RX: 20 * mbit})
	lte := s.of("lte")
	s.pass(rttHorizon/4, func() { s.held() })
	lte.RTT = 60 * ms // its queue drains for a moment
	s.pass(Interval)
	lte.RTT = 300 * ms
	s.pass(rttHorizon/2, func() { s.held() })
	// One that has been slow for long is slow.
	s.until("lte", true, rttHorizon)
	// Nor when the transfer ends: a smoothed round trip comes down by and by.
	s = newScene(t,
		Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 20 * ms, RX: 50 * mbit},
		Sample{WAN: "lte", Role: config.RoleBond, RTT: 200 * ms, RX: 20 * mbit})
	lte = s.of("lte")
	s.pass(3*time.Second, func() { s.held() })
	s.of("fibre").RX, lte.RX = 0, 0
	s.pass(drained+10*time.Second, func() {
		lte.RTT = max(60*ms, lte.RTT*7/8)
		s.held()
	})
	// One that is slow while it has room is so from the start.
	s = newScene(t,
		Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 20 * ms, RX: 50 * mbit},
		Sample{WAN: "lte", Role: config.RoleBond, RTT: 300 * ms, RX: noise / 2})
	if d := s.until("lte", true, drained); d < awake {
		t.Errorf("held after %v", d)
	}
	// One whose first answers have waited for a neighbour's address is not.
	s = newScene(t,
		Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 5 * ms},
		Sample{WAN: "lte", Role: config.RoleBond, RTT: 650 * ms})
	s.pass(2*Interval, func() { s.held() })
	s.of("lte").RTT = 30 * ms
	s.pass(rttHorizon, func() { s.held() })
}

// A burst into a modem's buffer is not the line's rate, and a line that has
// become slower is seen to be full again.
func TestLearnedRate(t *testing.T) {
	s := newScene(t, Sample{WAN: "dsl", Role: config.RolePrimary, RTT: 20 * ms}, Sample{WAN: "lte", Role: config.RoleOverflow, RTT: 60 * ms})
	dsl := s.of("dsl")
	for range 5 {
		dsl.TX = 100 * mbit
		s.pass(3 * Interval)
		dsl.TX = 0
		s.pass(time.Second)
	}
	dsl.TX = 10 * mbit
	s.pass(4 * time.Second)
	s.held()
	dsl.TX = 0
	s.pass(20 * time.Second)
	s.held("lte")
	s.now = s.now.Add(forget)
	dsl.TX = 6 * mbit
	s.pass(3 * time.Second)
	s.held()
	// What is hardly anything fills no line.
	s = newScene(t, Sample{WAN: "dsl", Role: config.RolePrimary, RTT: 20 * ms, TX: noise / 2}, Sample{WAN: "lte", Role: config.RoleOverflow, RTT: 60 * ms})
	s.pass(time.Minute)
	s.held("lte")
}

// One after the other, the nearer one first, in whatever order they are given.
func TestTwoOverflows(t *testing.T) {
	primary := Sample{WAN: "fibre", Role: config.RolePrimary, RTT: 20 * ms, RateDown: 50 * mbit, RX: 50 * mbit}
	near := Sample{WAN: "near", Role: config.RoleOverflow, RTT: 40 * ms, RateDown: 20 * mbit}
	far := Sample{WAN: "far", Role: config.RoleOverflow, RTT: 60 * ms, RateDown: 20 * mbit}
	for _, order := range [][]Sample{{primary, near, far}, {far, near, primary}} {
		s := newScene(t, order...)
		s.pass(10 * Interval)
		s.held("far")
		s.of("near").RX = 20 * mbit
		s.pass(10 * Interval)
		s.held()
		s.of("near").RX = 5 * mbit
		s.pass(leaveAfter + time.Second)
		s.held("far")
		s.of("fibre").RX = 0
		s.pass(leaveAfter + time.Second)
		if s.uses["near"].Held != true || s.uses["far"].Held != true {
			t.Errorf("with room on the primary: %+v", s.uses)
		}
	}
}

// bond is a fast line and a slow one; bring says what the slow one adds to the
// sum when it is used, while there is traffic.
func bond(t *testing.T, role config.Role) (s *scene, load func(bring float64) func()) {
	s = newScene(t,
		Sample{WAN: "slow", Role: role, RTT: 300 * ms},
		Sample{WAN: "fast", Role: config.RolePrimary, RTT: 30 * ms, RateDown: 12 * mbit})
	return s, func(bring float64) func() {
		return func() {
			s.of("fast").RX = 11.4 * mbit
			if bring != 0 && !s.uses["slow"].Held {
				s.of("fast").RX += bring
			}
		}
	}
}

func TestTrial(t *testing.T) {
	tests := []struct {
		name  string
		bring float64
		kept  bool
	}{{"brings", 0.9 * mbit, true}, {"costs", -0.8 * mbit, false}, {"does nothing", 0.1 * mbit, false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, load := bond(t, config.RoleBond)
			s.pass(time.Minute)
			s.held("slow")
			if r := s.uses["slow"].Reason; !strings.Contains(r, "round trip is much longer") {
				t.Errorf("reason %q", r)
			}
			s.until("slow", false, trialAfter+10*time.Second, load(tt.bring))
			if r := s.uses["slow"].Reason; r != "on trial" {
				t.Errorf("reason %q", r)
			}
			s.pass(trialTime+Interval, load(tt.bring))
			if s.uses["slow"].Held == tt.kept {
				t.Fatalf("after the trial: %+v", s.uses)
			}
			if tt.kept {
				s.pass(time.Hour, load(tt.bring))
				s.held()
				return
			}
			if r := s.uses["slow"].Reason; !strings.HasPrefix(r, "costs more than it brings: ") || !strings.HasSuffix(r, "11.4 without") {
				t.Errorf("reason %q", r)
			}
			var waits []time.Duration
			for range 6 {
				d := s.until("slow", false, time.Hour, load(tt.bring))
				waits = append(waits, d.Round(time.Minute))
				s.until("slow", true, time.Minute, load(tt.bring))
			}
			m := time.Minute
			if d := cmp.Diff([]time.Duration{2 * m, 4 * m, 8 * m, 16 * m, 30 * m, 30 * m}, waits); d != "" {
				t.Errorf("waits (-want +got):\n%s", d)
			}
		})
	}
}

// A WAN that was used and becomes slow is not judged by what it was in.
func TestBecomesSlow(t *testing.T) {
	s, load := bond(t, config.RoleBond)
	s.of("slow").RTT = 40 * ms
	s.pass(2*time.Minute, load(0.9*mbit))
	s.held()
	s.of("slow").RTT = 300 * ms
	s.until("slow", true, rttHorizon+time.Second, load(0.9*mbit))
	s.until("slow", false, time.Minute, load(0.9*mbit))
	s.pass(time.Minute, load(0.9*mbit))
	s.held()
}

func TestRecovers(t *testing.T) {
	s, load := bond(t, config.RoleBond)
	s.pass(trialAfter+20*time.Second, load(-0.8*mbit))
	s.held("slow")
	s.of("slow").RTT = 100 * ms // of 120 and more it would not be held
	s.pass(2*time.Minute, load(-0.8*mbit))
	if !s.uses["slow"].Held {
		t.Errorf("between the limits: %+v", s.uses)
	}
	s.of("slow").RTT = 60 * ms
	s.pass(Interval, load(0))
	s.held()
	if r := s.uses["slow"].Reason; r != "" {
		t.Errorf("reason %q", r)
	}
}

// The download ends in the middle of the trial.
func TestTrialWithoutTraffic(t *testing.T) {
	s, load := bond(t, config.RoleBond)
	s.pass(awake + Interval)
	s.until("slow", false, time.Minute, load(0.9*mbit))
	s.of("fast").RX = 0
	s.pass(trialTime)
	s.held("slow")
	if r := s.uses["slow"].Reason; strings.Contains(r, "costs") {
		t.Errorf("reason %q", r)
	}
	s.until("slow", false, trialAfter+10*time.Second, load(0.9*mbit))
	s.pass(time.Minute, load(0.9*mbit))
	s.held()
}

// An overflow WAN that is slow has to be wanted first, and worth it then.
func TestSlowOverflow(t *testing.T) {
	s, load := bond(t, config.RoleOverflow)
	s.pass(awake + Interval)
	if r := s.uses["slow"].Reason; r != "there is room on the WANs above it" {
		t.Errorf("reason %q", r)
	}
	s.until("slow", false, trialAfter+10*time.Second, load(-0.8*mbit))
	s.pass(trialTime, load(-0.8*mbit))
	if r := s.uses["slow"].Reason; !strings.HasPrefix(r, "costs more") {
		t.Errorf("reason %q", r)
	}
}

// Both are tried, one after the other, in whatever order they are given.
func TestTwoSlowWANs(t *testing.T) {
	fast := Sample{WAN: "fast", Role: config.RolePrimary, RTT: 30 * ms, RateDown: 12 * mbit}
	slow := Sample{WAN: "slow", Role: config.RoleBond, RTT: 300 * ms}
	slower := Sample{WAN: "slower", Role: config.RoleBond, RTT: 400 * ms}
	for _, order := range [][]Sample{{fast, slow, slower}, {slower, slow, fast}} {
		s := newScene(t, order...)
		s.pass(10 * time.Second)
		if !s.uses["slow"].Held || !s.uses["slower"].Held {
			t.Fatalf("idle: %+v", s.uses)
		}
		tried := make(map[string]bool)
		s.pass(time.Hour, func() {
			s.of("fast").RX = 11.4 * mbit
			for _, wan := range []string{"slow", "slower"} {
				if !s.uses[wan].Held && len(s.log) > 1 {
					s.of("fast").RX -= 0.8 * mbit
					tried[wan] = true
				}
			}
		})
		if !tried["slow"] || !tried["slower"] {
			t.Errorf("tried %v", tried)
		}
	}
}

// The round trip of a full line is not its own, neither of the fast one nor of
// the one that is used beside it.
func TestQueues(t *testing.T) {
	s, load := bond(t, config.RoleBond)
	s.pass(5 * time.Second)
	s.log = nil
	s.of("fast").RTT = 130 * ms
	s.pass(trialAfter+20*time.Second, load(-0.8*mbit))
	if len(s.log) != 3 { // held, on trial, held
		t.Errorf("%v", s.log)
	}
	s = newScene(t,
		Sample{WAN: "lte", Role: config.RoleBond, RTT: 50 * ms},
		Sample{WAN: "fast", Role: config.RolePrimary, RTT: 20 * ms, RateDown: 12 * mbit})
	for range 60 {
		s.of("lte").RTT = 50 * ms
		s.pass(10 * time.Second)
		s.of("lte").RTT = 600 * ms
		s.pass(20 * time.Second)
	}
	if d := cmp.Diff([]string{"[]"}, s.log); d != "" {
		t.Errorf("held (-want +got):\n%s", d)
	}
}

// WANs come and go, round trips and rates jump: whatever happens is decided
// seldom: a trial after 0, 2 and 4 minutes, or what hysteresis lets through.
func TestFlapping(t *testing.T) {
	tests := []struct {
		name string
		most int // changes in ten minutes
		step func(s *scene, i int)
	}{
		{"round trip about the limit", 6, func(s *scene, i int) { s.of("slow").RTT = time.Duration(110+20*(i%2)) * ms }},
		{"round trip far to and fro", 40, func(s *scene, i int) { s.of("slow").RTT = time.Duration(40+400*(i/240%2)) * ms }},
		{"rate", 0, func(s *scene, i int) { s.of("fast").RX = float64(i%2) * 12 * mbit }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, load := bond(t, config.RoleBond)
			s.pass(10 * time.Second)
			s.log = nil
			i := 0
			s.pass(10*time.Minute, load(-0.8*mbit), func() { tt.step(s, i); i++ })
			if len(s.log)-1 > tt.most {
				t.Errorf("%d changes: %v", len(s.log)-1, s.log)
			}
		})
	}
}

// The back-off after a failed trial outlasts the WAN's absence, a trial under
// way does not.
func TestAbsence(t *testing.T) {
	s, load := bond(t, config.RoleBond)
	s.pass(awake + Interval)
	s.until("slow", false, time.Minute, load(-0.8*mbit))
	s.pass(trialTime, load(-0.8*mbit))
	s.held("slow")
	all := s.samples
	s.samples = all[1:]
	s.pass(30*time.Second, func() { s.samples[0].RX = 11.4 * mbit })
	s.samples = all
	s.pass(awake+Interval, load(0))
	s.held("slow")
	if d := s.until("slow", false, time.Hour, load(-0.8*mbit)); d < time.Minute {
		t.Errorf("tried again after %v", d)
	}
	s.samples = all[1:]
	s.pass(30 * time.Second)
	s.samples = all
	s.pass(awake+Interval, load(0))
	if u := s.uses["slow"]; !u.Held || strings.HasPrefix(u.Reason, "costs") {
		t.Errorf("back: %+v", u)
	}
}
