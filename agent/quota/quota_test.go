// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"testing"
	"time"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestPeriods(t *testing.T) {
	for _, tt := range []struct {
		now  string
		day  int
		want date
		next string // when it ends
	}{
		{"2026-11-27 12:00:00", 1, 20261101, "2026-12-01 00:00:00"},
		{"2026-11-27 12:00:00", 28, 20261028, "2026-11-28 00:00:00"},
		{"2026-11-27 23:59:59", 28, 20261028, "2026-11-28 00:00:00"},
		{"2026-11-28 00:00:00", 28, 20261128, "2026-12-28 00:00:00"},
		{"2027-01-01 00:00:00", 1, 20270101, "2027-02-01 00:00:00"},
		{"2027-01-14 00:00:00", 15, 20261215, "2027-01-15 00:00:00"},
		{"2026-12-31 23:59:59", 1, 20261201, "2027-01-01 00:00:00"},
		{"2028-02-29 06:00:00", 28, 20280228, "2028-03-28 00:00:00"}, // a leap year
		{"2028-02-29 06:00:00", 1, 20280201, "2028-03-01 00:00:00"},
		{"2027-03-27 06:00:00", 28, 20270228, "2027-03-28 00:00:00"},
		{"2028-03-01 00:00:00", 28, 20280228, "2028-03-28 00:00:00"},
	} {
		tariff, now := Tariff{Limit: 1, Day: tt.day}, at(t, tt.now)
		if got := tariff.period(now); got != tt.want {
			t.Errorf("%s, day %d: period %d, want %d", tt.now, tt.day, got, tt.want)
		}
		if got, want := tariff.resets(now), at(t, tt.next).Sub(now); got != want {
			t.Errorf("%s, day %d: resets in %v, want %v", tt.now, tt.day, got, want)
		}
	}
	for name, tariff := range map[string]Tariff{"prepaid": {Limit: 1, Day: 1, Once: true}, "no clock": {Limit: 1, Day: 1}} {
		now := at(t, "2026-11-27 12:00:00")
		if name == "no clock" {
			now = time.Unix(60, 0)
		}
		if p, r := tariff.period(now), tariff.resets(now); p != 0 || r != 0 {
			t.Errorf("%s: period %d, resets in %v; there is none", name, p, r)
		}
	}
}

// step is a moment at which a device has carried so much since it was made.
type step struct {
	wall  string // empty: 60 s after the last; else the clock is set
	boot  string // empty: as before
	bytes uint64
	want  uint64 // used
}

// A clock may say anything; what was carried is never forgotten for that, nor
// is it counted in a month that it does not belong to.
func TestClocks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tariff Tariff
		steps  []step
	}{
		{"the month ends", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-11-30 23:58:30", boot: "a"}, {bytes: 10, want: 10}, {bytes: 15, want: 5}, {bytes: 16, want: 6},
		}},
		{"1970 before NTP, on the first day of all", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "1970-01-01 00:01:00", boot: "a"}, {bytes: 10, want: 10}, {wall: "2026-11-30 12:00:00", bytes: 12, want: 12}, {bytes: 20, want: 20},
		}},
		{"1970 after a reboot", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-11-10 12:00:00", boot: "a"}, {bytes: 100, want: 100},
			{wall: "1970-01-01 00:00:20", boot: "b", bytes: 5, want: 105}, {bytes: 7, want: 107},
			{wall: "2026-11-10 13:00:00", bytes: 8, want: 108},
		}},
		{"1970 after a reboot in another month", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-11-10 12:00:00", boot: "a"}, {bytes: 100, want: 100},
			{wall: "1970-01-01 00:00:20", boot: "b", bytes: 5, want: 105},
			{wall: "2026-12-02 13:00:00", bytes: 8, want: 8}, {bytes: 9, want: 9},
		}},
		{"the clock is ahead for a while, by years", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-11-10 12:00:00", boot: "a"}, {bytes: 100, want: 100},
			{wall: "2035-01-01 12:00:00", bytes: 105, want: 5},
			{wall: "2026-11-10 12:03:00", bytes: 106, want: 106}, {bytes: 110, want: 110},
			{wall: "2026-12-01 00:00:00", bytes: 111, want: 1}, {bytes: 112, want: 2},
		}},
		{"the clock is ahead for a while, by a month", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-11-30 23:57:30", boot: "a"}, {bytes: 100, want: 100},
			{wall: "2026-12-02 12:00:00", bytes: 105, want: 5},
			{wall: "2026-11-30 23:59:30", bytes: 106, want: 106}, {bytes: 108, want: 2}, {bytes: 109, want: 3},
		}},
		{"the clock is behind for a while, by a month", Tariff{Limit: 1000, Day: 1}, []step{
			{wall: "2026-10-20 12:00:00", boot: "a"}, {bytes: 50, want: 50},
			{wall: "2026-11-01 00:00:30", bytes: 60, want: 10}, {bytes: 100, want: 50},
			{wall: "2026-10-31 12:00:00", boot: "b", bytes: 3, want: 103},
			{wall: "2026-11-01 12:00:00", bytes: 4, want: 51}, {bytes: 5, want: 52},
		}},
		{"months away", Tariff{Limit: 1000, Day: 28}, []step{
			{wall: "2026-11-27 12:00:00", boot: "a"}, {bytes: 100, want: 100}, {wall: "2027-03-01 12:00:00", boot: "b", bytes: 1, want: 1},
		}},
		{"prepaid", Tariff{Limit: 1000, Day: 1, Once: true}, []step{
			{wall: "2026-11-30 23:58:30", boot: "a"}, {bytes: 10, want: 10}, {bytes: 15, want: 15},
			{wall: "1970-01-01 00:00:20", boot: "b", bytes: 5, want: 20}, {wall: "2027-06-01 00:00:20", bytes: 6, want: 21},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := reopen(t, t.TempDir()+"/quota", Moment{})
			var now Moment
			for i, s := range tt.steps {
				if s.boot != "" && s.boot != now.Boot {
					now = Moment{Boot: s.boot}
				}
				now.Up += time.Minute
				now.Wall = now.Wall.Add(time.Minute)
				if s.wall != "" {
					now.Wall = at(t, s.wall)
				}
				b.Count(now, "lte", tt.tariff, Reading{Device: "wwan0", Index: 4, Highest: 9, RX: s.bytes})
				if got := b.Usage(now.Wall, "lte", tt.tariff).Used; got != s.want {
					t.Errorf("step %d, %v: used %d, want %d", i, now.Wall, got, s.want)
				}
				// What is in the file is as good as what is in memory.
				if err := b.Save(now); err != nil {
					t.Fatal(err)
				}
				b = reopen(t, b.path, now)
			}
		})
	}
}

func reopen(t *testing.T, path string, now Moment) *Book {
	t.Helper()
	b, err := Open(path, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTariffChanges(t *testing.T) {
	now := Moment{Wall: at(t, "2026-11-20 12:00:00"), Boot: "a", Up: time.Minute}
	b := reopen(t, t.TempDir()+"/quota", now)
	count := func(bytes uint64, tariff Tariff) uint64 {
		now.Up += time.Minute
		now.Wall = now.Wall.Add(time.Minute)
		b.Count(now, "lte", tariff, Reading{Device: "wwan0", Index: 4, Highest: 4, TX: bytes})
		return b.Usage(now.Wall, "lte", tariff).Used
	}
	count(0, Tariff{Limit: 1000, Day: 1})
	for i, s := range []struct {
		bytes  uint64
		tariff Tariff
		want   uint64
	}{
		{10, Tariff{Limit: 1000, Day: 1}, 10},
		{11, Tariff{Limit: 1000, Day: 15}, 11}, // the 15th has been, and nothing has ended
		{12, Tariff{Limit: 1000, Day: 25}, 12},
		{13, Tariff{Limit: 1000, Day: 25, Once: true}, 13},
		{14, Tariff{Limit: 1000, Day: 25}, 14},
	} {
		if got := count(s.bytes, s.tariff); got != s.want {
			t.Errorf("step %d: used %d, want %d", i, got, s.want)
		}
	}
}

func TestDevices(t *testing.T) {
	type reading struct {
		boot string
		up   time.Duration
		Reading
		want uint64 // used
	}
	const gb = 1 << 30
	for _, tt := range []struct {
		name     string
		readings []reading
	}{
		{"what was carried before the first reading is not ours", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, 5000, 5000}, 0}, {"a", 101, Reading{"wwan0", 4, 4, 5010, 5001}, 11}}},
		{"made again under its name", []reading{
			{"a", 100, Reading{"wwan0", 4, 9, 5000, 5000}, 0}, {"a", 160, Reading{"wwan0", 10, 10, 70, 1}, 71}}},
		{"made again under its name, and has carried more than the old one", []reading{
			{"a", 100, Reading{"wwan0", 4, 9, 50, 50}, 0}, {"a", 160, Reading{"wwan0", 10, 10, 70, 70}, 140}}},
		{"made again under another name", []reading{
			{"a", 100, Reading{"wwan0", 4, 9, 5000, 5000}, 0}, {"a", 160, Reading{"wwan1", 10, 10, 70, 1}, 71}}},
		{"renamed", []reading{
			{"a", 100, Reading{"eth9", 4, 9, 5000, 5000}, 0}, {"a", 160, Reading{"wwan1", 4, 9, 5070, 5000}, 70}}},
		{"the section names another device, which was there", []reading{
			{"a", 100, Reading{"eth1", 2, 9, 5000, 5000}, 0}, {"a", 160, Reading{"eth2", 3, 9, 7000, 7000}, 0}, {"a", 161, Reading{"eth2", 3, 9, 7001, 7000}, 1}}},
		{"a reboot", []reading{
			{"a", 1000, Reading{"wwan0", 4, 9, 5000, 5000}, 0}, {"b", 20, Reading{"wwan0", 5, 8, 6000, 7000}, 13000}}},
		{"a reboot, and another device", []reading{
			{"a", 1000, Reading{"eth1", 2, 9, 5000, 5000}, 0}, {"b", 20, Reading{"eth2", 3, 9, 6000, 7000}, 0}}},
		{"32 bits wrap", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, 1<<32 - 10, 7}, 0}, {"a", 101, Reading{"wwan0", 4, 4, 20, 8}, 31}}},
		{"32 bits wrap while nobody looks", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, gb, 7}, 0}, {"a", 4000, Reading{"wwan0", 4, 4, gb / 2, 7}, 4*gb - gb/2}}},
		{"64 bits wrap", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, 1<<64 - 10, 7}, 0}, {"a", 101, Reading{"wwan0", 4, 4, 20, 8}, 31}}},
		{"the driver begins anew", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, 3 << 20, 900}, 0}, {"a", 101, Reading{"wwan0", 4, 4, 20, 8}, 28}}},
		{"the driver of a wide counter begins anew", []reading{
			{"a", 100, Reading{"wwan0", 4, 4, 300 * gb, 900}, 0}, {"a", 101, Reading{"wwan0", 4, 4, 20, 900}, 20}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tariff := Tariff{Limit: 1, Day: 1}
			b := reopen(t, t.TempDir()+"/quota", Moment{})
			for i, r := range tt.readings {
				now := Moment{Wall: at(t, "2026-11-20 12:00:00"), Boot: r.boot, Up: r.up * time.Second}
				b.Count(now, "lte", tariff, r.Reading)
				if got := b.Usage(now.Wall, "lte", tariff).Used; got != r.want {
					t.Errorf("reading %d: used %d, want %d", i, got, r.want)
				}
			}
		})
	}
}
