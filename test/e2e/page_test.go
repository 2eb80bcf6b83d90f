// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
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

// What connections carry is counted, by direction, and how much of it goes past
// the converter.
func TestBytesAreCounted(t *testing.T) {
	const size, more = 1 << 20, 64 << 10 // what traffic says beside it
	r := start(t, rig.Options{})
	c := bus(t, r)
	carried := func() report.Bytes {
		var s report.Status
		must(t, c.Call(t.Context(), "braid", "status", table{}, &s))
		return s.Bytes
	}
	near := func(what string, got uint64, want uint64) {
		t.Helper()
		if got < want || got > want+more {
			t.Errorf("%s: %d bytes, want %d", what, got, want)
		}
	}
	transfer(t, r.FromHost(lab.Server4), traffic.Download, size)
	down := carried()
	near("received", down.RX, size)
	near("sent", down.TX, 0)
	if down.Direct != 0 {
		t.Errorf("%d bytes past the converter", down.Direct)
	}
	must(t, r.WriteUCI(rig.DefaultUCI+"\nconfig rule 'straight'\n\toption path 'direct'\n"))
	must(t, c.Call(t.Context(), "braid", "reload", table{}, nil))
	transfer(t, r.FromHost(lab.Server4), traffic.Upload, size)
	up := carried()
	near("received by the second", up.RX-down.RX, 0)
	near("sent by the second", up.TX-down.TX, size)
	near("straight", up.Direct, size)
}

// A WAN's subflows are counted right after lines have come or gone, also those
// of connections that carry nothing.
func TestSubflowsAreCounted(t *testing.T) {
	const open = 20
	r := start(t, rig.Options{})
	hold(t, r, open)
	c := bus(t, r)
	counted := func(when string, fibre, lte int) {
		t.Helper()
		eventually(t, 15*time.Second, func() error {
			if f, l := wanOf(t, c, "fibre").Subflows, wanOf(t, c, "lte").Subflows; f != fibre || l != lte {
				return fmt.Errorf("%s: %d and %d subflows, not %d and %d", when, f, l, fibre, lte)
			}
			return nil
		})
	}
	counted("both work", open, open)
	must(t, r.WAN("lte").SetDown())
	counted("one is down", open, 0)
	must(t, r.WAN("lte").SetUp())
	counted("it is up again", open, open)
	must(t, r.WAN("fibre").SetDown())
	counted("the first is down", 0, open)
}

// A page that is open, with 2,000 connections, costs the agent 2 ms of
// processor time for each of its polls.
func TestPollIsCheap(t *testing.T) {
	const (
		open  = 2000
		polls = 12
		each  = time.Second            // of which every second one has a poll
		after = 200 * time.Millisecond // all is over that a poll brings about
		most  = 2 * time.Millisecond
		// rare is what may cost more: the page has its polls ask every 10 s for
		// connections, if they are shown.
		rare = 2 * most
	)
	r := start(t, rig.Options{})
	hold(t, r, open)
	if t.Failed() {
		return
	}
	c := bus(t, r)
	eventually(t, 15*time.Second, func() error { // all have joined, and been looked at
		if n := wanOf(t, c, "lte").Subflows; n != open {
			return fmt.Errorf("%d subflows", n)
		}
		return nil
	})
	spent := func(ask func()) time.Duration {
		before := cpuTime(t, r.Agent.Pid())
		ask()
		time.Sleep(after)
		return cpuTime(t, r.Agent.Pid()) - before
	}
	page := func(args table) func() {
		return func() {
			var cs report.Connections
			must(t, c.Call(t.Context(), "braid", "connections", args, &cs))
			if len(cs.Connections) != args["limit"] || cs.Total != open {
				t.Errorf("%v: %d of %d connections", args, len(cs.Connections), cs.Total)
			}
		}
	}
	for _, tt := range []struct {
		name string
		most time.Duration
		ask  func()
	}{
		{"status", most, func() {
			var s report.Status
			must(t, c.Call(t.Context(), "braid", "status", table{}, &s))
			if s.Connections.Open != open || s.WANs[0].Subflows != open || s.WANs[1].Subflows != open {
				t.Errorf("%d connections, %d and %d subflows", s.Connections.Open, s.WANs[0].Subflows, s.WANs[1].Subflows)
			}
		}},
		{"connections", rare, page(table{"limit": 25})},
		{"connections of a host and a WAN", rare, page(table{"limit": 25, "offset": open / 2, "host": "192.168.1.", "wan": "lte"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// What the agent does each second on its own account is in those without a
			// poll as well. The median is of those in which no garbage is collected.
			var idle, asked []time.Duration
			next := time.Now()
			for range polls {
				asked = append(asked, spent(tt.ask))
				next = next.Add(each)
				time.Sleep(time.Until(next))
				idle = append(idle, spent(func() {}))
				next = next.Add(each)
				time.Sleep(time.Until(next))
			}
			slices.Sort(idle)
			slices.Sort(asked)
			cost := asked[polls/2] - idle[polls/2]
			t.Logf("%v of processor time; without a poll %v to %v, with one %v to %v", cost, idle[0], idle[polls-1], asked[0], asked[polls-1])
			if cost > tt.most {
				t.Errorf("a poll costs %v", cost)
			}
		})
	}
}

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
