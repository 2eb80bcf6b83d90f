// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package history remembers, in memory alone, what somebody who looks only now
// and then wants to have seen: what the WANs carried, and what has happened.
package history

import (
	"math"
	"sync"
	"time"

	"braid/agent/report"
)

// MaxSpan is as far as the memory of rates reaches.
const MaxSpan = 24 * time.Hour

// Sample is what a WAN carries at the moment, in bit/s, and its round trip; 0
// if that is not known.
type Sample struct {
	RX, TX float64
	RTT    time.Duration
}

// Rates remembers what WANs carried. It knows no clock. Make one with NewRates.
type Rates struct {
	mu     sync.Mutex
	begun  time.Time
	last   time.Time // of the samples
	scales []*scale  // finest first
}

// longest is the time before it that a sample stands for, at most: what was before that,
// as when the machine slept, is not known.
const longest = 2 * time.Second

// NewRates remembers ten minutes, an hour and a day, ever more coarsely. A
// WAN takes 24 bytes a point, 18 kB together.
func NewRates() *Rates {
	return &Rates{scales: []*scale{
		newScale(2*time.Second, 10*time.Minute),
		newScale(20*time.Second, time.Hour),
		newScale(5*time.Minute, MaxSpan),
	}}
}

// Add takes samples of all WANs, by name. A WAN that is not among them any
// more is forgotten.
func (r *Rates) Add(now time.Time, samples map[string]Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun.IsZero() {
		r.begun, r.last = now, now
	}
	at := now.Sub(r.begun)
	for _, s := range r.scales {
		s.add(max(r.last.Sub(r.begun), at-longest), at, samples)
	}
	r.last = now
}

// Report returns the last span of the WANs named, in the finest scale that
// reaches as far. A WAN that came later carried nothing before.
func (r *Rates) Report(span time.Duration, names []string) report.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s *scale
	for _, s = range r.scales {
		if span <= s.span() {
			break
		}
	}
	h := report.History{Step: int(s.step.Seconds()), WANs: []report.WANHistory{}}
	n := min(int((span+s.step-1)/s.step), s.size, s.slot)
	for _, name := range names {
		h.WANs = append(h.WANs, s.report(name, n))
	}
	return h
}

// scale is the memory in steps of one length. It tells of whole steps only.
type scale struct {
	step time.Duration
	size int // in steps
	slot int // the step that is going on, counted from the first
	wans map[string]*series
}

func newScale(step, span time.Duration) *scale {
	return &scale{step: step, size: int(span / step), wans: make(map[string]*series)}
}

func (s *scale) span() time.Duration { return s.step * time.Duration(s.size) }

// add takes samples that hold from one time to another, which may be in several
// steps.
func (s *scale) add(from, to time.Duration, samples map[string]Sample) {
	for name := range s.wans {
		if _, there := samples[name]; !there {
			delete(s.wans, name)
		}
	}
	for from < to {
		slot := int(from / s.step)
		s.advance(slot)
		end := min(to, time.Duration(slot+1)*s.step)
		for name, w := range s.wans {
			w.add(samples[name], end-from)
		}
		from = end
	}
	s.advance(int(to / s.step))
	for name := range samples {
		if s.wans[name] == nil {
			s.wans[name] = &series{points: make([]Sample, s.size)}
		}
	}
}

// advance ends the steps before slot. In those without a sample, as when the
// machine slept, nothing was carried.
func (s *scale) advance(slot int) {
	from := max(s.slot, slot-s.size)
	for _, w := range s.wans {
		for i := from; i < slot; i++ {
			w.points[i%s.size] = w.mean()
			w.sum, w.took, w.rtts = Sample{}, 0, 0
		}
	}
	s.slot = max(s.slot, slot)
}

func (s *scale) report(name string, n int) report.WANHistory {
	h := report.WANHistory{Name: name, RX: make([]int64, n), TX: make([]int64, n), RTT: make([]float64, n)}
	w := s.wans[name]
	if w == nil {
		return h
	}
	for i := range n {
		p := w.points[(s.slot-n+i)%s.size]
		h.RX[i], h.TX[i] = int64(p.RX), int64(p.TX)
		// A tenth of a millisecond is more than can be seen.
		h.RTT[i] = math.Round(p.RTT.Seconds()*1e4) / 10
	}
	return h
}

// series is one WAN: a ring of points, and the sum of the step that is going on.
type series struct {
	points []Sample
	sum    Sample        // rates times seconds, and round trips
	took   time.Duration // of what is summed
	rtts   int           // round trips
}

func (w *series) add(v Sample, took time.Duration) {
	w.sum.RX += v.RX * took.Seconds()
	w.sum.TX += v.TX * took.Seconds()
	w.took += took
	if v.RTT > 0 {
		w.sum.RTT += v.RTT
		w.rtts++
	}
}

func (w *series) mean() (m Sample) {
	if w.took > 0 {
		m.RX, m.TX = w.sum.RX/w.took.Seconds(), w.sum.TX/w.took.Seconds()
	}
	if w.rtts > 0 {
		m.RTT = w.sum.RTT / time.Duration(w.rtts)
	}
	return m
}
