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
	scales []*scale // finest first
}

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
		r.begun = now
	}
	for _, s := range r.scales {
		s.add(now.Sub(r.begun), samples)
	}
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

func (s *scale) add(at time.Duration, samples map[string]Sample) {
	s.advance(int(at / s.step))
	for name := range s.wans {
		if _, there := samples[name]; !there {
			delete(s.wans, name)
		}
	}
	for name, v := range samples {
		w := s.wans[name]
		if w == nil {
			w = &series{points: make([]Sample, s.size)}
			s.wans[name] = w
		}
		w.add(v)
	}
}

// advance ends the steps before slot. In those without a sample, as when the
// machine slept, nothing was carried.
func (s *scale) advance(slot int) {
	from := max(s.slot, slot-s.size)
	for _, w := range s.wans {
		for i := from; i < slot; i++ {
			w.points[i%s.size] = w.mean()
			w.sum, w.n, w.rtts = Sample{}, 0, 0
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
	sum    Sample
	n      int
	rtts   int // how many of the n had a round trip
}

func (w *series) add(v Sample) {
	w.sum.RX += v.RX
	w.sum.TX += v.TX
	w.sum.RTT += v.RTT
	w.n++
	if v.RTT > 0 {
		w.rtts++
	}
}

func (w *series) mean() (m Sample) {
	if w.n > 0 {
		m.RX, m.TX = w.sum.RX/float64(w.n), w.sum.TX/float64(w.n)
	}
	if w.rtts > 0 {
		m.RTT = w.sum.RTT / time.Duration(w.rtts)
	}
	return m
}
