// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/report"
)

var start = time.Unix(1_700_000_000, 0)

func TestRatesAreMeansOfWholeSteps(t *testing.T) {
	r := NewRates()
	for i := range 21 { // five seconds at four samples a second: the last step is not over
		at := start.Add(time.Duration(i) * 250 * time.Millisecond)
		rtt := time.Duration(i%2) * 30 * time.Millisecond // each second one is not known
		r.Add(at, map[string]Sample{"fibre": {RX: float64(i), TX: 8, RTT: rtt}, "lte": {}})
	}
	got := r.Report(time.Minute, []string{"lte", "fibre", "other"})
	want := report.History{Step: 2, WANs: []report.WANHistory{
		{Name: "lte", RX: []int64{0, 0}, TX: []int64{0, 0}, RTT: []float64{0, 0}},
		{Name: "fibre", RX: []int64{4, 12}, TX: []int64{8, 8}, RTT: []float64{30, 30}}, // of samples 1 to 8, 9 to 16: 4.5 and 12.5
		{Name: "other", RX: []int64{0, 0}, TX: []int64{0, 0}, RTT: []float64{0, 0}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
}

// A day and more of a rate that tells the time: each scale has all of its span,
// and its newest point last.
func TestRatesOfEachScale(t *testing.T) {
	const end = 100_000 // seconds, no whole number of any step's
	r := NewRates()
	for i := range end + 1 {
		r.Add(start.Add(time.Duration(i)*time.Second), map[string]Sample{"w": {RX: float64(i)}})
	}
	for _, tt := range []struct{ span, step, points int }{
		{1, 2, 1}, {60, 2, 30}, {61, 2, 31}, {600, 2, 300}, {601, 20, 31}, {3600, 20, 180}, {3601, 300, 13}, {86400, 300, 288}, {1 << 30, 300, 288},
	} {
		h := r.Report(time.Duration(tt.span)*time.Second, []string{"w"})
		rx := h.WANs[0].RX
		if h.Step != tt.step || len(rx) != tt.points {
			t.Errorf("span %d: %d points of %d s, not %d of %d s", tt.span, len(rx), h.Step, tt.points, tt.step)
			continue
		}
		first := end/tt.step - tt.points
		for i, v := range rx {
			if want := int64((first+i)*tt.step + (tt.step+1)/2); v != want {
				t.Errorf("span %d: point %d is %d, not %d", tt.span, i, v, want)
				break
			}
		}
	}
}

func TestRatesOfWANsThatComeAndGo(t *testing.T) {
	r := NewRates()
	for i := range 31 {
		s := map[string]Sample{"old": {RX: 1}}
		if i >= 10 {
			s["new"] = Sample{RX: 2}
		}
		if i >= 20 {
			delete(s, "old")
		}
		if i < 24 || i >= 28 { // asleep in between
			r.Add(start.Add(time.Duration(i)*time.Second), s)
		}
	}
	h := r.Report(time.Minute, []string{"old", "new"})
	if diff := cmp.Diff(make([]int64, 15), h.WANs[0].RX); diff != "" {
		t.Errorf("one that has gone, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 2, 2}, h.WANs[1].RX); diff != "" {
		t.Errorf("one that has come, -want +got:\n%s", diff)
	}
}

// What samples at odd intervals tell adds up to what was carried.
func TestRatesAddUp(t *testing.T) {
	r := NewRates()
	at, last, carried := start, start, 0.0
	r.Add(at, map[string]Sample{"w": {}})
	for i := range 100 {
		at = at.Add(time.Duration(50+i*37%900) * time.Millisecond)
		rate := float64(i % 7 * 1e6)
		carried += rate * at.Sub(last).Seconds()
		last = at
		r.Add(at, map[string]Sample{"w": {RX: rate}})
	}
	for range 3 { // ends the last step
		at = at.Add(time.Second)
		r.Add(at, map[string]Sample{"w": {}})
	}
	told := 0.0
	for _, rx := range r.Report(10*time.Minute, []string{"w"}).WANs[0].RX {
		told += float64(rx * 2)
	}
	if told < 0.999*carried || told > 1.001*carried {
		t.Errorf("%v bits of %v", told, carried)
	}
}

func TestNoRatesYet(t *testing.T) {
	r := NewRates()
	want := report.History{Step: 2, WANs: []report.WANHistory{{Name: "w", RX: []int64{}, TX: []int64{}, RTT: []float64{}}}}
	for range 2 {
		if diff := cmp.Diff(want, r.Report(time.Minute, []string{"w"})); diff != "" {
			t.Error("-want +got:\n" + diff)
		}
		r.Add(start, map[string]Sample{"w": {RX: 1}}) // of a step that is going on
	}
}

func TestEvents(t *testing.T) {
	var e Events
	if got := e.Report(start, 0); len(got.Events) != 0 || got.Next != 1 || e.Last() != 0 {
		t.Errorf("before the first: %+v, last %d", got, e.Last())
	}
	const all = MaxEvents + 7
	for i := 1; i <= all; i++ {
		e.Add(start.Add(time.Duration(i)*time.Second), report.Event{Type: report.EventWAN, Name: fmt.Sprint(i)})
	}
	now := start.Add((all + 5) * time.Second)
	for _, tt := range []struct{ since, first, n int }{
		{0, 8, MaxEvents}, {-3, 8, MaxEvents}, {all - 2, all - 2, 3}, {all, all, 1}, {all + 1, 0, 0}, {1 << 30, 0, 0},
	} {
		got := e.Report(now, tt.since)
		if len(got.Events) != tt.n || got.Next != all+1 || e.Last() != all {
			t.Errorf("since %d: %d events, next %d, last %d", tt.since, len(got.Events), got.Next, e.Last())
			continue
		}
		for i, v := range got.Events {
			if n := tt.first + i; v.Number != n || v.Name != fmt.Sprint(n) || v.Age != all+5-n {
				t.Errorf("since %d: %+v at %d", tt.since, v, i)
			}
		}
	}
}
