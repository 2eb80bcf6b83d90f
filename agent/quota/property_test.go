// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// world is a router and what its line really carried, as somebody would write
// it down who has paper enough: every piece, and when.
type world struct {
	t    *testing.T
	rnd  *rand.Rand
	path string
	book *Book

	now    time.Time // as it really is
	set    bool      // the router's clock is right; else it began at 1970
	booted time.Time
	boots  int

	device     string
	index      int
	width      int    // of its counters, in bits
	rx, tx     uint64 // what they would show, were they wide enough
	incarnates int

	tariff  Tariff
	pieces  []piece
	writes  []time.Duration
	written []byte

	safeBoot   int // of the reading in the file
	safeDevice string
}

type piece struct {
	when  time.Time
	bytes uint64
	vague bool // when is not what the book can know
	inc   int  // of the device
	read  bool // by the book
	safe  bool // in its file
	gone  bool // lost, or before what a user has said
	maybe bool // went round a counter of 32 bits twice while nobody looked
}

func (w *world) moment() Moment {
	up := w.now.Sub(w.booted)
	wall := w.now
	if !w.set {
		wall = time.Unix(0, 0).Add(up)
	}
	return Moment{Wall: wall, Boot: fmt.Sprint("boot-", w.boots), Up: up}
}

func (w *world) mask(v uint64) uint64 {
	if w.width == 32 {
		return uint64(uint32(v))
	}
	return v
}

func (w *world) carry() {
	n := w.rnd.Uint64N(1 << 30)
	up := w.rnd.Uint64N(n/4 + 1)
	w.rx, w.tx = w.rx+n-up, w.tx+up
	w.pieces = append(w.pieces, piece{when: w.now, bytes: n, vague: !w.set, inc: w.incarnates})
}

// make replaces the device: what nobody has read of the old one is lost.
func (w *world) make() {
	for i := range w.pieces {
		w.pieces[i].gone = w.pieces[i].gone || !w.pieces[i].read
	}
	w.incarnates++
	w.index += 1 + w.rnd.IntN(3)
	w.device = []string{"wwan0", "wwan1"}[w.rnd.IntN(2)]
	w.width = []int{32, 64}[w.rnd.IntN(2)]
	w.rx, w.tx = 0, 0
}

// look is what the agent does each second.
func (w *world) look() {
	m := w.moment()
	w.book.Count(m, "lte", w.tariff, Reading{w.device, w.index, w.index, w.mask(w.rx), w.mask(w.tx)})
	for i := range w.pieces {
		w.pieces[i].read = true
	}
	w.saved(w.book.SaveIfDue(m), false)
}

// saved notes whether the file is another one now.
func (w *world) saved(err error, asked bool) {
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	if string(text) == string(w.written) {
		return
	}
	w.written, w.safeBoot, w.safeDevice = text, w.boots, w.device
	for i := range w.pieces {
		w.pieces[i].safe = w.pieces[i].read
	}
	up := w.moment().Up
	if n := len(w.writes); !asked && n > 0 && up-w.writes[n-1] < SaveInterval {
		w.t.Errorf("written %v after the last time", up-w.writes[n-1])
	}
	w.writes = append(w.writes, up)
}

// start is what the agent does first; before, it may have been killed.
func (w *world) start() {
	var missed uint64
	for i := range w.pieces { // back to what the file and the device say
		p := &w.pieces[i]
		p.read = p.safe
		p.gone = p.gone || !p.safe && (p.inc != w.incarnates || w.boots != w.safeBoot && w.device != w.safeDevice)
		p.vague = p.vague || !p.safe // the device does not say when
		if !p.safe && !p.gone {
			missed += p.bytes
		}
	}
	for i := range w.pieces {
		p := &w.pieces[i]
		p.maybe = p.maybe || !p.safe && w.width == 32 && missed >= 1<<32
	}
	b, err := Open(w.path, w.moment())
	if err != nil {
		w.t.Fatal(err)
	}
	w.book = b
}

// boot is a power cut, after which the clock is not set.
func (w *world) boot() {
	for i := range w.pieces {
		w.pieces[i].gone = w.pieces[i].gone || !w.pieces[i].safe
	}
	w.boots++
	w.booted, w.set, w.index, w.writes = w.now, false, 2, nil
	name := w.device // of a modem that is there at boot
	w.make()
	w.device = name
	w.writes = []time.Duration{w.moment().Up} // the hour begins
}

// check compares with what was written down. What was carried while the clock
// was not set and a month ended may count in either.
func (w *world) check() {
	var low, high uint64
	m := w.moment()
	begin := w.tariff.begin(w.now)
	if w.tariff.Once {
		begin = time.Time{}
	}
	for _, p := range w.pieces {
		switch {
		case p.gone:
		case !p.when.Before(begin) && p.maybe:
			high += p.bytes
		case !p.when.Before(begin):
			low, high = low+p.bytes, high+p.bytes
		case p.vague:
			high += p.bytes
		}
	}
	if got := w.book.Usage(m.Wall, "lte", w.tariff).Used; got < low || got > high {
		w.t.Fatalf("%v (%v): used %d, want %d to %d", w.now, m, got, low, high)
	}
}

func TestAgainstPaper(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 14))
			w := &world{t: t, rnd: rnd, path: filepath.Join(t.TempDir(), "quota"), device: "wwan0", index: 2, width: 32,
				now: at(t, "2026-11-27 12:00:00").Add(time.Duration(rnd.IntN(100*24)) * time.Hour), set: true,
				tariff: Tariff{Limit: 1 << 40, Day: 1 + rnd.IntN(28), Once: rnd.IntN(5) == 0}}
			w.booted = w.now.Add(-time.Minute)
			w.start()
			w.look()
			for range 400 {
				w.now = w.now.Add(time.Second)
				switch n := rnd.IntN(100); {
				case n < 50:
					w.carry()
				case n < 70:
					w.now = w.now.Add(time.Duration(rnd.IntN(3600)) * time.Second)
				case n < 75 && w.set: // to the end of a period
					w.look()
					if r := w.tariff.resets(w.now); r > 0 {
						w.now = w.now.Add(r - time.Duration(rnd.IntN(3))*time.Second)
					}
				case n < 80:
					w.make()
				case n < 84: // the agent is killed
					w.start()
				case n < 88: // and stopped
					w.look()
					w.saved(w.book.Save(w.moment()), true)
					w.start()
				case n < 91: // switched off for a while
					w.look()
					if rnd.IntN(2) == 0 {
						w.saved(w.book.Save(w.moment()), true)
					}
					w.now = w.now.Add(time.Duration(rnd.IntN(20*24)) * time.Hour)
					w.boot()
					w.start()
				case n < 97: // NTP
					w.set = true
				default:
					w.look()
					said := rnd.Uint64N(1 << 35)
					for i := range w.pieces {
						w.pieces[i].gone = true
					}
					w.pieces = append(w.pieces, piece{when: w.now, bytes: said, vague: !w.set, read: true, safe: true})
					w.saved(w.book.SetUsed(w.moment(), "lte", said), true)
				}
				w.look()
				if w.set {
					w.check()
				}
			}
			if w.boots < 2 || w.incarnates < 5 {
				t.Errorf("%d boots and %d devices are not a test", w.boots, w.incarnates)
			}
		})
	}
}
