// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var monthly = Tariff{Limit: 1000, Day: 1}

// A day of traffic is written 25 times: at once when the book begins, then
// each hour; at the end once more.
func TestWrittenSeldom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "quota")
	now := Moment{Wall: at(t, "2026-11-20 12:00:00"), Boot: "a", Up: time.Minute}
	b := reopen(t, path, now)
	writes, last := 0, ""
	look := func() {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != last {
			writes, last = writes+1, string(text)
		}
	}
	for second := range 24*3600 + 1 {
		b.Count(now, "lte", monthly, Reading{Device: "wwan0", Index: 4, Highest: 4, RX: uint64(second)})
		if err := b.SaveIfDue(now); err != nil {
			t.Fatal(err)
		}
		if second%60 == 0 { // an agent that crashes often is no reason
			look()
			b = reopen(t, path, now)
		}
		now.Up += time.Second
		now.Wall = now.Wall.Add(time.Second)
	}
	if writes != 25 {
		t.Errorf("written %d times in a day, want 25", writes)
	}
	b.Count(now, "lte", monthly, Reading{Device: "wwan0", Index: 4, Highest: 4, RX: 1e6})
	if err := b.Save(now); err != nil {
		t.Fatal(err)
	}
	if look(); writes != 26 {
		t.Error("not written at the end")
	}
	if err := b.Save(now); err != nil {
		t.Fatal(err)
	}
	if look(); writes != 26 {
		t.Error("written although nothing is new")
	}
	// Nor is one that boots often.
	for boot := range 5 {
		now = Moment{Wall: now.Wall, Boot: string(rune('b' + boot)), Up: time.Minute}
		b = reopen(t, path, now)
		for range 600 {
			now.Up += time.Second
			b.Count(now, "lte", monthly, Reading{Device: "wwan0", Index: 4, Highest: 4, RX: uint64(now.Up)})
			if err := b.SaveIfDue(now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if look(); writes != 26 {
		t.Errorf("written %d times by five boots of ten minutes", writes-26)
	}
}

// Whatever is found in place of the file, counting goes on, what can be read of
// it holds, and the next file is a good one.
func TestDamagedFile(t *testing.T) {
	good := header + "\nsaved boot=a up=60\nwan lte day=1 current=20261101 undated=0 boot=a up=60 wall=1795000000 device=wwan0 index=4 highest=4 rx=1 tx=1 20261101=700\n"
	for _, tt := range []struct {
		name, text string
		want       uint64
		bad        bool
	}{
		{"good", good, 700, false},
		{"empty", "", 0, true},
		{"another version", strings.Replace(good, "quota 1", "quota 2", 1), 0, true},
		{"not text", "\x00\xff\x00\xff", 0, true},
		{"cut off", good[:len(good)-60], 0, true},
		{"another line", good + "wan fibre day=x\nwhat\n", 700, true},
		{"a line before", strings.Replace(good, "saved", "saved x\nsaved", 1), 700, true},
		{"too large a number", good + "wan fibre day=1 20261101=99999999999999999999999\n", 700, true},
		{"a line without a name", good + "wan\n", 700, true},
		{"many lines", good + strings.Repeat("wan x day=1\n", 3), 700, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "quota")
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			now := Moment{Wall: at(t, "2026-11-20 12:00:00"), Boot: "a", Up: time.Hour}
			b, err := Open(path, now)
			if (err != nil) != tt.bad {
				t.Errorf("error %v", err)
			}
			if got := b.Usage(now.Wall, "lte", monthly).Used; got != tt.want {
				t.Errorf("used %d, want %d", got, tt.want)
			}
			b.Count(now, "lte", monthly, Reading{Device: "wwan0", Index: 4, Highest: 4, RX: 1, TX: 1})
			if err := b.Save(now); err != nil {
				t.Fatal(err)
			}
			if got := reopen(t, path, now).Usage(now.Wall, "lte", monthly).Used; got != tt.want {
				t.Errorf("used %d in the next file, want %d", got, tt.want)
			}
		})
	}
}

// A write that fails leaves the old file as it was, and is not tried again each
// second.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("quota", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatalf("mounting a small file system: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	path := filepath.Join(dir, "quota")
	now := Moment{Wall: at(t, "2026-11-20 12:00:00"), Boot: "a", Up: time.Hour}
	b := reopen(t, path, now)
	if err := b.SetUsed(now, "lte", 7); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 12<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.SetUsed(now, "lte", 8); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want that the disk is full", err)
	}
	now.Up += time.Second
	if err := b.SaveIfDue(now); err != nil {
		t.Errorf("tried again after a second: %v", err)
	}
	if got := reopen(t, path, now).Usage(now.Wall, "lte", monthly).Used; got != 7 {
		t.Errorf("the file says %d, want what it said", got)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(now); err != nil {
		t.Fatal(err)
	}
	if got := reopen(t, path, now).Usage(now.Wall, "lte", monthly).Used; got != 8 {
		t.Errorf("the file says %d, want 8", got)
	}
}

// A level is told once when it is reached, by whatever way, also by an agent
// that was not there.
func TestLevels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quota")
	now := Moment{Wall: at(t, "2026-11-30 23:00:00"), Boot: "a", Up: time.Minute}
	b := reopen(t, path, now)
	carried := uint64(0)
	for i, s := range []struct {
		carry, set uint64
		limit      uint64
		restart    bool
		later      time.Duration
		want       int
	}{
		{carry: 799, limit: 1000}, {carry: 1, limit: 1000, want: 80}, {carry: 1, limit: 1000}, {limit: 1000, restart: true},
		{carry: 198, limit: 1000}, {carry: 1, limit: 1000, want: 100}, {carry: 500, limit: 1000}, {limit: 1000, restart: true},
		{limit: 10000}, {limit: 1600, want: 80},
		{set: 1601, limit: 1600, want: 100}, {set: 10, limit: 1600}, {set: 1300, limit: 1600, want: 80},
		{carry: 1000, limit: 1600, restart: true, want: 100},
		{limit: 1600, later: 2 * time.Hour}, {carry: 1600, limit: 1600, want: 100},
	} {
		now.Up += time.Second + s.later
		now.Wall = now.Wall.Add(time.Second + s.later)
		carried += s.carry
		if s.set > 0 {
			if err := b.SetUsed(now, "lte", s.set); err != nil {
				t.Fatal(err)
			}
		}
		if s.restart {
			if err := b.Save(now); err != nil {
				t.Fatal(err)
			}
			b = reopen(t, path, now)
		}
		if i == 0 {
			b.Count(now, "lte", monthly, Reading{Device: "wwan0", Index: 4, Highest: 4})
		}
		got := b.Count(now, "lte", Tariff{Limit: s.limit, Day: 1}, Reading{Device: "wwan0", Index: 4, Highest: 4, RX: carried})
		if got != s.want {
			t.Errorf("step %d: level %d, want %d", i, got, s.want)
		}
	}
}

func TestClock(t *testing.T) {
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Now()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	second, err := c.Now()
	if err != nil {
		t.Fatal(err)
	}
	if first.Boot == "" || second.Boot != first.Boot || second.Up <= first.Up || !second.Wall.After(first.Wall) {
		t.Errorf("%+v, then %+v", first, second)
	}
}
