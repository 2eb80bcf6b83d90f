// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

//go:build !race

// Hours of simulated time. The race detector takes a minute for them, and has
// crashed in it (Go 1.26); what runs at the same time in them does so in the
// shorter ones.

package health

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"braid/agent/socket/connect"
	"braid/agent/socket/icmp"
)

// Ten minutes of a cellular line.
func TestLTE(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			const length = 10 * time.Minute
			slots := lteSlots(t, seed, length+time.Minute)
			s := run(t, map[string]*line{
				"fibre": {rtt: steady(20 * ms)},
				"lte":   {rtt: slots.late, stream: slots.count},
			}, both(), func(*sim) { time.Sleep(length) })
			s.lived(fibre4, lte4)
		})
	}
}

// A cellular line that is configured as a fixed one dies of its stalls, if at
// all, until it is known for them.
func TestLTEAsFixed(t *testing.T) {
	for seed, way := range []netip.AddrPort{peer4, tcp4} {
		synctest.Test(t, func(t *testing.T) {
			const length = 40 * time.Minute
			slots := lteSlots(t, uint64(seed), length+time.Minute)
			targets := both()
			targets[1].Patient, targets[1].Ways = false, Ways{way}
			s := run(t, map[string]*line{
				"fibre": {rtt: steady(20 * ms)},
				"lte":   {rtt: slots.late, stream: slots.count},
			}, targets, func(*sim) { time.Sleep(length) })
			s.lived(fibre4)
			deaths := 0
			for _, c := range s.changes(lte4, 0) {
				if c.Verdict == Down {
					deaths++
				}
			}
			if deaths > 2 {
				t.Errorf("%d deaths: %+v", deaths, s.log)
			}
		})
	}
}

// An outage loses what is on its way: it is no reason to wait longer for the
// next, however it came and however long it was.
func TestOutagesAreNoStalls(t *testing.T) {
	for _, length := range []time.Duration{200 * ms, time.Second, 3 * time.Second, 30 * time.Second} {
		for _, away := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				const period, outages = 11 * time.Minute, 3 // so that no gap is remembered
				const busy = 10 * time.Second               // before and after
				rtt := steady(20 * ms)
				var streams [][2]time.Duration
				for n := range time.Duration(outages) {
					start := n*period + busy
					rtt = until(start, length, rtt)
					streams = append(streams, [2]time.Duration{start - busy, start}, [2]time.Duration{start + length, start + length + busy})
				}
				s := run(t, map[string]*line{
					"fibre": {rtt: rtt, stream: flow(ms, streams...)},
					"lte":   {rtt: steady(60 * ms)},
				}, both(), func(s *sim) {
					for n := range time.Duration(outages) {
						time.Sleep(n*period + busy - s.now())
						if away {
							time.Sleep(length / 2)
							s.m.SetTargets(both()[1:])
							time.Sleep(length / 2)
							s.m.SetTargets(both())
						}
					}
					time.Sleep(length + busy)
				})
				for n := range time.Duration(outages) {
					if !away || length > time.Second { // else it was away before that
						s.died(fibre4, n*period+busy, 190*ms)
					}
				}
				if s.m.trackers[fibre4].bearing > 0 {
					t.Errorf("%v, away %v: taken for a stall", length, away)
				}
				s.lived(lte4)
			})
		}
	}
}

// Ten minutes of a fixed line whose packets are up to 400 ms late, each way.
func TestJitter(t *testing.T) {
	for seed := range uint64(2) {
		for _, every := range []time.Duration{ms, 10 * ms} {
			synctest.Test(t, func(t *testing.T) {
				const length = 10 * time.Minute
				up, down := newJitter(400*ms, seed, length+time.Minute), newJitter(400*ms, seed+100, length+time.Minute)
				in := through(down, every, length+30*time.Second)
				s := run(t, map[string]*line{
					"fibre": {
						rtt: func(at time.Duration) time.Duration {
							there := at + 10*ms + up.at(at)
							return there + down.at(there) - at
						},
						stream: in.count,
					},
					"lte": {rtt: steady(60 * ms)},
				}, both(), func(*sim) { time.Sleep(length) })
				s.lived(fibre4, lte4)
			})
		}
	}
}

// What a backup WAN that carries nothing costs in a month, in both families.
func TestBudget(t *testing.T) {
	const budget = 20e6
	month := 31 * 24 * time.Hour
	tcp6 := netip.AddrPortFrom(peer6.Addr(), 5124)
	tests := []struct {
		name string
		dead []netip.AddrPort
	}{
		{"answered", nil},
		{"answered by TCP alone", []netip.AddrPort{peer4, peer6}},
		{"never answered", []netip.AddrPort{peer4, peer6, tcp4, tcp6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				beyond := unanswered(0, tt.dead...)
				lines := map[string]*line{"lte": {rtt: steady(60 * ms), beyond: beyond}, "lte6": {rtt: steady(60 * ms), beyond: beyond}}
				v4, v6 := target("lte", peer4, true), target("lte", peer6, true)
				v4.Ways[1], v6.Ways[1] = tcp4, tcp6
				v6.Device = "lte6"
				// No watch of devices, which would take a simulated month to sleep through.
				ctx, cancel := context.WithCancel(t.Context())
				s := &sim{t: t, start: time.Now(), lines: lines}
				s.m = NewMonitor(discard)
				s.m.open = s.open
				s.m.SetTargets([]Target{v4, v6})
				for p, target := range s.m.targets {
					s.m.probers[p] = newProber(ctx, s.m, target)
					go s.m.probers[p].run()
				}
				time.Sleep(month)
				cancel()
				synctest.Wait()
				four, six := lines["lte"], lines["lte6"]
				bytes := four.cost(icmp.Size4, connect.Size4, connect.SYN4) + six.cost(icmp.Size6, connect.Size6, connect.SYN6)
				t.Logf("%d + %d probes, %d + %d of them by TCP, %.1f MB", four.sent, six.sent, four.sentTCP, six.sentTCP, float64(bytes)/1e6)
				if bytes > budget {
					t.Errorf("%d bytes", bytes)
				}
				if four.sent < int(month/time.Minute) {
					t.Errorf("%d probes", four.sent)
				}
			})
		})
	}
}
