// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// during runs a transfer of the LAN host and lets something happen 3 s into
// it. Every byte is checked.
func during(t *testing.T, r *rig.Rig, op traffic.Op, bytes int64, happen func()) traffic.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	timer := time.AfterFunc(3*time.Second, happen)
	defer timer.Stop()
	rep, err := r.FromHost(lab.Server4).Do(ctx, op, traffic.Request{Bytes: bytes, Interval: 200 * time.Millisecond})
	if err != nil {
		t.Fatalf("%v: %v", rep, err)
	}
	t.Log(rep)
	return rep
}

// A running transfer goes on over the other line, soon: on a link that goes
// down, on one that stays up and loses everything, and on one that has lost
// what is behind its router. The bound is generous; make bench has the figures.
func TestFailover(t *testing.T) {
	const bound = 1200 * time.Millisecond
	ways := []struct {
		name string
		kill func(*rig.Rig) error
	}{
		{"link down", func(r *rig.Rig) error { return r.WAN("fibre").SetDown() }},
		{"black hole", func(r *rig.Rig) error { r.Link("fibre").Blackhole(true); return nil }},
		{"nothing behind the gateway", func(r *rig.Rig) error {
			_, err := r.WAN("fibre").Router.Run("nft add table inet dead && nft add chain inet dead f '{ type filter hook forward priority 0; policy drop; }'")
			return err
		}},
		{"address goes away", func(r *rig.Rig) error {
			_, err := r.Gateway.Run("ip addr flush dev fibre")
			return err
		}},
	}
	for i, way := range ways {
		ops := map[string]traffic.Op{"download": traffic.Download}
		if i < 2 {
			ops["upload"] = traffic.Upload
		}
		for name, op := range ops {
			t.Run(way.name+", "+name, func(t *testing.T) {
				r := start(t, rig.Options{Lab: lines()})
				rep := during(t, r, op, 30e6, func() {
					if err := way.kill(r); err != nil {
						t.Error(err)
					}
				})
				if rep.Stall > bound {
					t.Errorf("stalled for %v", rep.Stall)
				}
				for _, w := range status(t, r).WANs {
					if w.Name == "fibre" && w.State != "down" {
						t.Errorf("fibre is %s", w.State)
					}
				}
				// What subflows over it send again does not leave by the other line.
				if out, err := r.Gateway.Run("ip route get 192.0.2.10 from 198.51.100.2"); i == 0 && err == nil {
					t.Errorf("the way of fibre's packets: %s", out)
				}
				// New connections start on what is left.
				if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e6); rep.FirstByte > time.Second {
					t.Errorf("a new connection: %v", rep)
				}
			})
		}
	}
}

// A line that dies while nothing uses it costs the next connection one more
// second, the time it takes to try the other line too.
func TestDeadWhileIdle(t *testing.T) {
	const bound = 2500 * time.Millisecond
	r := start(t, rig.Options{Lab: lines()})
	time.Sleep(3 * time.Second) // until nothing probes it in a hurry
	r.Link("fibre").Blackhole(true)
	for range 3 {
		if rep := transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4); rep.FirstByte > bound {
			t.Errorf("a new connection: %v", rep)
		}
	}
	if c := status(t, r).Connections; c.Convert != 3 || c.TCPFallback != 0 {
		t.Errorf("connections %+v", c)
	}
}

// A line that returns is used again by the connection that was open all the
// time, but not before it has proved itself.
func TestReturn(t *testing.T) {
	for name, kill := range map[string]func(r *rig.Rig, dead bool) error{
		"link": func(r *rig.Rig, dead bool) error {
			if dead {
				return r.WAN("fibre").SetDown()
			}
			return r.WAN("fibre").SetUp()
		},
		"black hole": func(r *rig.Rig, dead bool) error { r.Link("fibre").Blackhole(dead); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lines()})
			carried := func() uint64 { return r.Link("fibre").BA().Counters().Bytes }
			var early string
			var before, after uint64
			comeBack := func() {
				must(t, kill(r, false))
				time.Sleep(time.Second)
				early = status(t, r).WANs[0].State
				time.Sleep(2 * time.Second)
				before = carried()
				time.Sleep(3 * time.Second)
				after = carried()
			}
			// The converter's first connection to a server that is mute has the
			// MPTCP layer over its TCP, and now and then does not recover soon.
			transfer(t, r.FromHost(lab.Server4), traffic.Download, 1e4)
			during(t, r, traffic.Download, 55e6, func() {
				must(t, kill(r, true))
				time.AfterFunc(2*time.Second, comeBack)
			})
			if early != "down" {
				t.Errorf("fibre is %s within a second of its return", early)
			}
			if after-before < 5e6 {
				t.Errorf("%d bytes in 3 s on the line that returned", after-before)
			}
		})
	}
}

// A line that comes and goes costs no byte and no connection.
func TestFlaps(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	flaps := 0
	done := make(chan struct{})
	// Fibre never proves itself, so the other line takes 21 s, the flaps 20 s.
	during(t, r, traffic.Download, 78e6, func() {
		go func() {
			defer close(done)
			for ; ctx.Err() == nil && flaps < 100; flaps++ {
				r.WAN("fibre").SetDown()
				time.Sleep(100 * time.Millisecond)
				r.WAN("fibre").SetUp()
				time.Sleep(100 * time.Millisecond)
			}
		}()
	})
	cancel()
	<-done
	if flaps < 100 {
		t.Errorf("only %d flaps", flaps)
	}
}

// A cellular line that stalls now and then, or whose delay jumps about, is not
// given up.
func TestNoFalseFailover(t *testing.T) {
	for name, spec := range map[string]link.Spec{
		"LTE-like trace":   {Trace: link.LTE(1), Delay: 25 * time.Millisecond, Queue: 300 * time.Millisecond},
		"400 ms of jitter": {Rate: 20e6, Delay: 30 * time.Millisecond, Jitter: 400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			fast := link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond}
			r := start(t, rig.Options{Lab: lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(spec, spec)}}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			rep, err := r.FromHost(lab.Server4).Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: 20 * time.Second})
			must(t, err)
			t.Log(rep)
			for _, w := range status(t, r).WANs {
				if w.State == "down" || w.Since < 15 {
					t.Errorf("%s is %s since %d s: %s", w.Name, w.State, w.Since, w.Reason)
				}
			}
		})
	}
}
