// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

func TestTransmitter(t *testing.T) {
	trace, err := ReadTrace(strings.NewReader("1\n1\n5\n"))
	if err != nil {
		t.Fatal(err)
	}
	type packet struct {
		size int
		at   time.Duration
	}
	tests := []struct {
		name    string
		spec    Spec
		start   time.Duration
		packets []packet
		want    []time.Duration
	}{
		{"unlimited", Spec{}, 0, []packet{{1500, 3 * ms}, {1500, 3 * ms}}, []time.Duration{3 * ms, 3 * ms}},
		{"rate", Spec{Rate: 12_000_000}, 0,
			[]packet{{1500, 0}, {750, 0}, {1500, 10 * ms}},
			[]time.Duration{1 * ms, 1500 * time.Microsecond, 11 * ms}},
		{"slots, next round", Spec{Trace: trace}, 0,
			[]packet{{1500, 0}, {1500, 0}, {1500, 0}, {1500, 0}},
			[]time.Duration{1 * ms, 1 * ms, 5 * ms, 6 * ms}},
		{"small packets share a slot", Spec{Trace: trace}, 0,
			[]packet{{500, 0}, {500, 0}, {500, 0}, {1400, 0}, {200, 0}},
			[]time.Duration{1 * ms, 1 * ms, 1 * ms, 1 * ms, 5 * ms}},
		{"a slot does not wait", Spec{Trace: trace}, 0,
			[]packet{{100, 0}, {100, 2 * ms}, {100, 12 * ms}},
			[]time.Duration{1 * ms, 5 * ms, 15 * ms}},
		{"start of the trace", Spec{Trace: trace}, 100 * ms,
			[]packet{{1500, 90 * ms}, {1500, 102 * ms}},
			[]time.Duration{101 * ms, 105 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := transmitter{start: tt.start}
			var got []time.Duration
			for _, p := range tt.packets {
				var done time.Duration
				done, tx = tx.send(&tt.spec, p.size, p.at)
				got = append(got, done)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("departures (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadTrace(t *testing.T) {
	tests := []struct {
		name, in, err string
		rate          int64
	}{
		{"good", "0\n5\n10\n", "", 3 * 12000 * 100},
		{"empty", "", "trace of 0 opportunities has no duration", 0},
		{"only the start", "0\n0\n", "trace of 2 opportunities has no duration", 0},
		{"descending", "5\n4\n", "reading trace, line 2: 4 is not ascending", 0},
		{"negative", "-1\n", "reading trace, line 1: -1 is not ascending", 0},
		{"no number", "1\nx\n", `reading trace, line 2: strconv.ParseInt: parsing "x": invalid syntax`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, err := ReadTrace(strings.NewReader(tt.in))
			if err != nil {
				if diff := cmp.Diff(tt.err, err.Error()); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
				return
			}
			if tt.err != "" || tr.Rate() != tt.rate {
				t.Errorf("rate is %d, want %d, error %q", tr.Rate(), tt.rate, tt.err)
			}
		})
	}
}

func TestLTE(t *testing.T) {
	tr := LTE(1)
	if rate := float64(tr.Rate()); rate < 14e6 || rate > 16e6 {
		t.Errorf("mean rate is %.1f Mbit/s, want 15", rate/1e6)
	}
	if tr.Duration() != time.Minute {
		t.Errorf("duration is %v, want a minute", tr.Duration())
	}
	perSecond := make(map[int64]int)
	stalls := 0
	for i, v := range tr.ms {
		perSecond[(v-1)/1000]++
		if i > 0 && v-tr.ms[i-1] >= 100 {
			stalls++
			if v-tr.ms[i-1] > 800 {
				t.Errorf("stall of %d ms", v-tr.ms[i-1])
			}
		}
	}
	slow, fast := 0, 0
	for _, n := range perSecond {
		mbit := float64(n) * slotBytes * 8 / 1e6
		if mbit > 40.1 {
			t.Errorf("a second with %.1f Mbit/s", mbit)
		}
		if mbit < 8 {
			slow++
		}
		if mbit > 25 {
			fast++
		}
	}
	if slow == 0 || fast == 0 || stalls < 3 || stalls > 15 {
		t.Errorf("%d slow seconds, %d fast ones, %d stalls: not like LTE", slow, fast, stalls)
	}

	var b bytes.Buffer
	if _, err := tr.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	again, err := ReadTrace(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(LTE(1).ms, again.ms); diff != "" {
		t.Errorf("same seed, or written and read (-want +got):\n%s", diff)
	}
	if cmp.Equal(LTE(2).ms, tr.ms) {
		t.Error("two seeds make the same trace")
	}
}

func TestRing(t *testing.T) {
	var r ring
	var got []time.Duration
	for i := range 100 { // wraps and grows
		r.insert(packet{at: time.Duration(i)})
		r.insert(packet{at: time.Duration(i)})
		got = append(got, r.pop().at)
	}
	r.insert(packet{at: 10})
	for r.n > 0 {
		got = append(got, r.pop().at)
	}
	var want []time.Duration
	for i := range 100 {
		want = append(want, time.Duration(i/2))
	}
	want = append(want, 10)
	for i := range 100 {
		want = append(want, time.Duration(50+i/2))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestSpecCheck(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		err  string
	}{
		{"zero", Spec{}, ""},
		{"rate", Spec{Rate: -1}, "rate -1 is negative"},
		{"delay", Spec{Delay: -1}, "delay -1ns, jitter 0s, queue 0s or 0 bytes is negative"},
		{"loss", Spec{Loss: 1.5}, "loss 1.5 is not within 0 and 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := tt.spec.check(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.err, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
