// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

// width is how far a counter may be behind the highest one: at 500 connections
// a second, what a line takes that sends its SYN for the third time (7 s).
const width = 4096

// window remembers which counters have been seen (RFC 6479). The zero value
// has seen none.
type window struct {
	last uint64 // the highest one
	bits [width/64 + 1]uint64
}

// What a window says of a counter.
type novelty int

const (
	fresh  novelty = iota
	seen           //
	behind         // so far that it is not known whether it was seen
)

// take notes a counter.
func (w *window) take(n uint64) novelty {
	block := n / 64
	if n > w.last {
		top := w.last / 64
		for i := range min(block-top, uint64(len(w.bits))) {
			w.bits[(top+1+i)%uint64(len(w.bits))] = 0
		}
		w.last = n
	}
	if w.last-n >= width {
		return behind
	}
	bits, bit := &w.bits[block%uint64(len(w.bits))], uint64(1)<<(n%64)
	if *bits&bit != 0 {
		return seen
	}
	*bits |= bit
	return fresh
}
