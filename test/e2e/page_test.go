// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/agent/ubus"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// converterSection is the lab's converter as uci get tells of a section.
var converterSection = table{".type": "converter", ".name": "mcp", ".anonymous": false,
	"address": []string{lab.Converter4.String()}, "port": "5124"}

// remembered waits until there is something in the memory of rates.
func remembered(t *testing.T, c *ubus.Client) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		var h report.History
		must(t, c.Call(t.Context(), "braid", "history", table{"span": 60}, &h))
		for _, w := range h.WANs {
			if len(w.RX) == 0 {
				return fmt.Errorf("no history of %s", w.Name)
			}
		}
		return nil
	})
}

// What a WAN has carried is in the memory when somebody first looks.
func TestUbusHistory(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	remembered(t, c)
	transfer(t, r.FromHost(lab.Server4), traffic.Download, 4<<20)
	eventually(t, 10*time.Second, func() error {
		var h report.History
		must(t, c.Call(t.Context(), "braid", "history", table{"span": 60}, &h))
		if h.Step != 2 || len(h.WANs) != 2 || h.WANs[0].Name != "fibre" || h.WANs[1].Name != "lte" {
			return fmt.Errorf("%+v", h)
		}
		var bits int64
		for _, w := range h.WANs {
			for i := range w.RX {
				bits += w.RX[i] * int64(h.Step)
			}
			if n := len(w.RX); n == 0 || n > 30 || len(w.TX) != n || len(w.RTT) != n {
				return fmt.Errorf("%+v", w)
			}
		}
		if bits < 8*4<<20 {
			return fmt.Errorf("%d bits of a download of 4 MB", bits)
		}
		return nil
	})
}

// The memory of events goes on where the last answer ended, and status tells
// whether it is worth asking.
func TestUbusEventsRemembered(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	var all report.Events
	eventually(t, 10*time.Second, func() error {
		must(t, c.Call(t.Context(), "braid", "events", table{}, &all))
		for _, e := range all.Events {
			if e.Type == report.EventWAN && e.Name == "lte" && e.To == "up" {
				return nil
			}
		}
		return fmt.Errorf("no event of lte: %+v", all)
	})
	if e := all.Events[0]; e.Number != 1 || e.Type != report.EventConfig || e.To != "taken" {
		t.Errorf("the first: %+v", e)
	}
	must(t, r.WAN("lte").SetDown())
	eventually(t, 10*time.Second, func() error {
		var s report.Status
		must(t, c.Call(t.Context(), "braid", "status", table{}, &s))
		if s.LastEvent < all.Next {
			return errors.New("no event")
		}
		var news report.Events
		must(t, c.Call(t.Context(), "braid", "events", table{"since": all.Next}, &news))
		if n := news.Events[0].Number; n != all.Next {
			t.Errorf("the first new one is %d, want %d", n, all.Next)
		}
		for _, e := range news.Events { // others may still be about the start
			if e.Name == "lte" && e.From == "up" && e.Reason != "" && e.Age <= 10 {
				return nil
			}
		}
		return fmt.Errorf("%+v", news)
	})
}

func TestUbusCheck(t *testing.T) {
	r := start(t, rig.Options{})
	c := bus(t, r)
	check := func(args table) (answer report.Reload) {
		t.Helper()
		must(t, c.Call(t.Context(), "braid", "check", args, &answer))
		return answer
	}
	section := func(kind, name string, options table) table {
		s := table{".type": kind, ".name": name, ".anonymous": name == ""}
		for k, v := range options {
			s[k] = v
		}
		return s
	}
	if a := check(table{}); !a.OK || len(a.Problems) != 0 {
		t.Errorf("the file: %+v", a)
	}
	if a := check(table{"sections": []table{}}); !a.OK || len(a.Problems) != 0 {
		t.Errorf("no sections: %+v", a)
	}
	a := check(table{"sections": []table{
		section("wan", "a", table{"device": "eth0", "role": "primary"}),
		section("wan", "b", table{"device": "eth1", "role": "primary", "colour": "red"}),
		section("rule", "", table{"dest_port": []string{"80", "x"}}),
	}})
	var got []string
	for _, p := range a.Problems {
		got = append(got, fmt.Sprintf("%s.%s %v", p.Section, p.Option, p.Warning))
	}
	if want := "b.colour true, @rule[0].dest_port false, b.role false"; a.OK || strings.Join(got, ", ") != want {
		t.Errorf("%+v, want %s", a, want)
	}
	must(t, r.WriteUCI("config wan 'w'\n"))
	if a := check(table{}); a.OK || len(a.Problems) != 1 || a.Problems[0].Section != "w" {
		t.Errorf("a bad file: %+v", a)
	}
	must(t, r.WriteUCI("config wan 'w\n"))
	if a := check(table{}); a.OK || len(a.Problems) != 1 {
		t.Errorf("a broken file: %+v", a)
	}
}

// try asks a converter before it is in the configuration.
func TestUbusTry(t *testing.T) {
	r := start(t, rig.Options{MCP: []string{"-client", "198.51.100.99/32"}})
	c := bus(t, r)
	for _, tt := range []struct{ address, port, want string }{
		{lab.Converter4.String(), "5124", "refused"},
		{lab.Converter4.String(), "5125", "down"},
		{lab.Converter4.String(), "none", "down"},
		{"converter.invalid", "5124", "down"},
	} {
		s := table{".type": "converter", ".name": "", ".anonymous": true, "address": []string{tt.address}, "port": tt.port}
		var got report.Try
		must(t, c.Call(t.Context(), "braid", "try", table{"section": s}, &got))
		if got.State != tt.want || got.Reason == "" {
			t.Errorf("%s %s: %+v", tt.address, tt.port, got)
		}
	}
	must(t, r.MCP.Stop())
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	var got report.Try
	must(t, c.Call(t.Context(), "braid", "try", table{"section": converterSection}, &got))
	if got.State != "up" || got.RTT <= 0 || got.Reason != "" {
		t.Errorf("%+v", got)
	}
}

// A page that is open, with 2,000 connections, costs the agent 2 ms of
// processor time for each of its polls, which come each 2 s.
func TestPollIsCheap(t *testing.T) {
	const (
		open = 2000
		poll = 2 * time.Second
		most = 2 * time.Millisecond
	)
	r := start(t, rig.Options{})
	hold(t, r, open)
	if t.Failed() {
		return
	}
	c := bus(t, r)
	const polls = 5
	spend := func(ask func()) time.Duration {
		before := cpuTime(t, r.Agent.Pid())
		for range polls {
			ask()
			time.Sleep(poll)
		}
		return cpuTime(t, r.Agent.Pid()) - before
	}
	status := func() {
		var s report.Status
		must(t, c.Call(t.Context(), "braid", "status", table{}, &s))
		if s.Connections.Open != open {
			t.Errorf("%d connections", s.Connections.Open)
		}
	}
	// What the agent does on its own account differs from one time to the next,
	// and a garbage collection, which has the stacks of thousands of connections
	// to look at, falls into one of the two or not: that is not the poll's.
	const (
		rounds     = 4
		collection = 40 * time.Millisecond
	)
	least := time.Duration(math.MaxInt64)
	for range rounds {
		status()
		time.Sleep(flowsSettle)
		idle := spend(func() {})
		status()
		asked := spend(status)
		each := (asked - idle - collection) / polls
		t.Logf("%v at rest, %v while asked %d times: %v for each poll beside a collection", idle, asked, polls, each)
		if least = min(least, each); least <= most {
			return
		}
	}
	t.Errorf("a poll costs %v", least)
}

// flowsSettle is for how long the agent keeps an answer ready after a question.
const flowsSettle = 6 * time.Second

// cpuTime is what a process has used of the processors.
func cpuTime(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // it has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		must(t, err)
		sum += time.Duration(ns)
	}
	return sum
}
