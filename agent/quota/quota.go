// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package quota counts what WANs carry against what their tariffs allow, over
// restarts, reboots and devices that come and go, by a clock that may not be
// set yet. A Book keeps the count in a file that is seldom written.
package quota

import "time"

// Tariff is what a WAN's provider allows.
type Tariff struct {
	Limit uint64 // bytes a period, both directions together; more than 0
	Day   int    // of the month on which a period begins, 1 to 28
	Once  bool   // prepaid: there is one period, which does not end
}

// Reading is what the kernel has counted on the device of a WAN.
type Reading struct {
	Device string
	Index  int // of the device; the kernel uses none twice between two boots
	// Highest is the highest index of any device at that time: a device with a
	// higher one has been made later.
	Highest int
	RX, TX  uint64 // bytes
}

// Moment is a time by both of a router's clocks.
type Moment struct {
	Wall time.Time     // 1970, or when it was switched off, until NTP has set it
	Boot string        // names the run of the kernel
	Up   time.Duration // since its begin
}

// Usage is how a WAN stands.
type Usage struct {
	Used   uint64        // bytes in the present period
	Resets time.Duration // until the next one; 0: never, or not known
}

// Levels are the percentages of a limit of which a user is told.
var Levels = [...]int{80, 100}

// Level is the highest of Levels that has been reached, or 0.
func (t Tariff) Level(used uint64) (level int) {
	for _, l := range Levels {
		if float64(used) >= float64(t.Limit)*float64(l)/100 {
			level = l
		}
	}
	return level
}

// clockSet is a time before which no clock is believed that it has been set.
var clockSet = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// begin is the first day of the period that a time lies in.
func (t Tariff) begin(now time.Time) time.Time {
	y, m, d := now.Date()
	if d < t.Day {
		m-- // Date makes December of the year before of month 0
	}
	return time.Date(y, m, t.Day, 0, 0, 0, 0, now.Location())
}

// period is the present one, 0 where there is none or the clock does not tell.
func (t Tariff) period(now time.Time) date {
	if t.Once || now.Before(clockSet) {
		return 0
	}
	return dateOf(t.begin(now))
}

// resets is how long the present period still lasts.
func (t Tariff) resets(now time.Time) time.Duration {
	if t.Once || now.Before(clockSet) {
		return 0
	}
	y, m, d := t.begin(now).Date()
	return time.Date(y, m+1, d, 0, 0, 0, 0, now.Location()).Sub(now)
}

// date is a day as the number YYYYMMDD, so that later ones are greater.
type date int

func dateOf(t time.Time) date {
	y, m, d := t.Date()
	return date(y*10000 + int(m)*100 + d)
}
