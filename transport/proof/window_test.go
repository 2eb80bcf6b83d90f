// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// naive remembers every counter.
type naive struct {
	last uint64
	seen map[uint64]bool
}

func (w *naive) take(n uint64) novelty {
	if w.seen == nil {
		w.seen = make(map[uint64]bool)
	}
	w.last = max(w.last, n)
	switch {
	case w.last-n >= width:
		return behind
	case w.seen[n]:
		return seen
	}
	w.seen[n] = true
	return fresh
}

func TestWindow(t *testing.T) {
	steps := []struct {
		n    uint64
		want novelty
	}{
		{0, fresh}, {0, seen}, {1, fresh}, {1, seen}, {9, fresh}, {8, fresh}, {7, fresh}, {7, seen}, {3, fresh},
		{width - 1, fresh}, {width - 2, fresh}, {2, fresh}, {2, seen},
		{width, fresh}, {0, behind}, {1, seen}, {width + 1, fresh}, {1, behind}, {2, seen}, {4, fresh},
		{3 * width, fresh}, {3*width - width + 1, fresh}, {3*width - width, behind}, {2 * width, behind}, {width, behind},
		{3*width - 1, fresh}, {3 * width, seen},
		{math.MaxUint64, fresh}, {math.MaxUint64, seen}, {math.MaxUint64 - 1, fresh}, {math.MaxUint64 - width + 1, fresh},
		{math.MaxUint64 - width, behind}, {0, behind},
	}
	var w window
	for i, s := range steps {
		if got := w.take(s.n); got != s.want {
			t.Errorf("step %d, counter %d: %d, want %d", i, s.n, got, s.want)
		}
	}
}

// Counters as lines deliver them: some forward, some late, some again.
func TestWindowAgainstNaive(t *testing.T) {
	for range 50 {
		var w window
		var n naive
		next := rand.Uint64N(3) * rand.Uint64N(math.MaxUint64/2)
		for range 20000 {
			c := next
			switch rand.IntN(10) {
			case 0:
				c -= min(c, rand.Uint64N(2*width))
			case 1:
				c += rand.Uint64N(3 * width)
			case 2:
				c += rand.Uint64N(130)
			}
			next = max(next, c) + rand.Uint64N(2)
			if got, want := w.take(c), n.take(c); got != want {
				t.Fatalf("counter %d with %d as the highest: %d, want %d", c, n.last, got, want)
			}
		}
	}
}

// FuzzWindow reads counters as steps from the highest one.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 255, 255, 16, 0, 240, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var w window
		var n naive
		for ; len(b) >= 2; b = b[2:] {
			c := n.last + uint64(int64(int16(binary.BigEndian.Uint16(b))))
			if got, want := w.take(c), n.take(c); got != want {
				t.Fatalf("counter %d with %d as the highest: %d, want %d", c, n.last, got, want)
			}
		}
	})
}
