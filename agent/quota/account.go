// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import "slices"

// maxPeriods bounds what an account remembers. More than the present one is
// needed where the clock has been wrong.
const maxPeriods = 8

// account is what one WAN has carried, by the period that the clock named at
// the time.
//
// A clock can be wrong, and be set right in either direction. So nothing is
// thrown away when it names another period: what was counted in one that has
// not begun yet belongs to the present one, until that ends.
type account struct {
	meter
	day     int  // of Tariff
	current date // the period that the clock named last; 0: none yet
	named   bool // and names now
	periods []entry
	undated uint64 // counted while the clock named none
	level   int    // the last that was told; -1: not looked at yet
}

// entry is a period with its bytes; those of an account are in order.
type entry struct {
	begin date
	bytes uint64
}

// count notes a reading; level is one of Levels if that has been reached since
// the last reading, else 0.
func (a *account) count(now Moment, t Tariff, r Reading) (level int) {
	if a.level < 0 {
		a.level = t.Level(a.used())
	}
	a.enter(t.period(now.Wall), t.Day, a.stepped(now))
	a.add(a.advance(now, r))
	before := a.level
	if a.level = t.Level(a.used()); a.level > before {
		level = a.level
	}
	return level
}

// used is what counts against the limit now.
func (a *account) used() uint64 {
	sum := a.undated
	for _, e := range a.periods {
		if e.begin >= a.current {
			sum += e.bytes
		}
	}
	return sum
}

// setUsed makes it so many bytes.
func (a *account) setUsed(bytes uint64) {
	a.periods = slices.DeleteFunc(a.periods, func(e entry) bool { return e.begin >= a.current })
	a.undated = 0
	a.add(bytes)
}

// enter makes p the present period, unless the clock does not tell. Stepped
// says that the clock has not come there by itself.
func (a *account) enter(p date, day int, stepped bool) {
	if a.named = p != 0; !a.named {
		return
	}
	switch {
	case day != a.day:
		// Where periods begin on another day now, none has ended by that.
		used := a.used()
		a.periods, a.undated, a.current = nil, 0, p
		a.add(used)
		a.day = day
	case p > a.current:
		// What a clock that was ahead has put into later periods was the old
		// one's. After a step p itself may be where the clock was right before.
		if stepped {
			a.fold(p + 1)
		} else {
			a.fold(p)
		}
		fallthrough
	default:
		a.current = p
		undated := a.undated
		a.undated = 0
		a.add(undated)
	}
}

// fold moves what was counted in periods from a date on into the current one.
func (a *account) fold(from date) {
	var sum uint64
	a.periods = slices.DeleteFunc(a.periods, func(e entry) bool {
		if e.begin >= from {
			sum += e.bytes
		}
		return e.begin >= from
	})
	a.put(a.current, sum)
}

// add counts bytes that were carried now.
func (a *account) add(bytes uint64) {
	if a.named {
		a.put(a.current, bytes)
	} else {
		a.undated += bytes
	}
}

// put adds bytes to those of a period.
func (a *account) put(begin date, bytes uint64) {
	if bytes == 0 {
		return
	}
	i := slices.IndexFunc(a.periods, func(e entry) bool { return e.begin >= begin })
	switch {
	case i < 0:
		a.periods = append(a.periods, entry{begin, bytes})
	case a.periods[i].begin == begin:
		a.periods[i].bytes += bytes
	default:
		a.periods = append(a.periods, entry{})
		copy(a.periods[i+1:], a.periods[i:])
		a.periods[i] = entry{begin, bytes}
	}
	if len(a.periods) > maxPeriods {
		a.periods = a.periods[1:]
	}
}
