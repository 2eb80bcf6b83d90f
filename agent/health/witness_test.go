// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// gone makes all peers, or some, silent for a while, over whatever line: what is
// on its way back arrives.
func gone(from, length time.Duration, some ...netip.AddrPort) func(netip.AddrPort, time.Duration) time.Duration {
	return func(to netip.AddrPort, at time.Duration) time.Duration {
		if at < from || at >= from+length {
			return 0
		}
		for _, s := range some {
			if to.Addr() == s.Addr() {
				return -1
			}
		}
		if len(some) == 0 {
			return -1
		}
		return 0
	}
}

// The network of what lines are asked about goes away at once, in a download,
// and comes back. No line dies of it, whatever else comes in.
func TestPeerGoneInDownload(t *testing.T) {
	const at, back = 20 * time.Second, 95 * time.Second
	download := [][2]time.Duration{{0, at}, {back, back + 20*time.Second}}
	for _, tt := range []struct {
		name    string
		ways    Ways
		gone    []netip.AddrPort
		others  time.Duration // between packets of somebody else's on the fibre; 0: none
		lte     time.Duration // the same on the LTE
		idleLTE bool
		rtt     time.Duration // of the LTE
	}{
		{name: "alone", ways: Ways{peer4, tcp4}},
		{name: "beside voice", ways: Ways{peer4, tcp4}, others: 20 * ms},
		{name: "beside a few", ways: Ways{peer4, tcp4}, others: 300 * ms},
		{name: "beside fewer", ways: Ways{peer4, tcp4}, others: 1300 * ms},
		{name: "beside some on the LTE", ways: Ways{peer4, tcp4}, others: 700 * ms, lte: 10 * ms},
		{name: "LTE idle", ways: Ways{peer4, tcp4}, others: 700 * ms, idleLTE: true},
		{name: "LTE slow", ways: Ways{peer4, tcp4}, others: 300 * ms, rtt: 700 * ms},
		{name: "two in one place", ways: Ways{peer4, tcp4, second4, secondTCP}, others: 300 * ms},
		{name: "the first of two", ways: Ways{peer4, tcp4, second4, secondTCP}, gone: []netip.AddrPort{peer4}, others: 300 * ms},
	} {
		for offset := time.Duration(0); offset < 60*ms; offset += 7 * ms {
			t.Run(fmt.Sprintf("%s, %v", tt.name, offset), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stream := func(others, shift time.Duration, idle bool) func(time.Duration) int {
						down := flow(ms, download...)
						return func(now time.Duration) (n int) {
							if now += shift - offset; !idle {
								n = down(now)
							}
							if others > 0 {
								n += int(now / others)
							}
							return n
						}
					}
					beyond := gone(at+offset, back-at, tt.gone...)
					lines := map[string]*line{
						"fibre": {rtt: steady(20 * ms), beyond: beyond, stream: stream(tt.others, -10*ms, false)},
						"lte":   {rtt: steady(max(tt.rtt, 60*ms)), beyond: beyond, stream: stream(tt.lte, -max(tt.rtt, 60*ms)/2, tt.idleLTE)},
					}
					targets := both()
					targets[0].Ways, targets[1].Ways = tt.ways, tt.ways
					s := run(t, lines, targets, func(*sim) { time.Sleep(2 * time.Minute) })
					s.lived(fibre4, lte4)
					if h := s.m.Health()[fibre4]; h.Verdict != Up {
						t.Errorf("in the end: %+v", h)
					}
				})
			})
		}
	}
}

// An upload fills a queue of 3.5 s within half a second, at rates at which the
// acknowledgements are many or few.
func TestUploadFillsQueue(t *testing.T) {
	const at, queue = 40 * time.Second, 3500 * ms
	for _, acks := range []time.Duration{ms, 24 * ms, 60 * ms, 190 * ms, 380 * ms} {
		for _, also := range []netip.AddrPort{{}, second4} {
			t.Run(fmt.Sprintf("%v between acknowledgements, %v", acks, also), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					delay := func(now time.Duration) time.Duration { return max(0, min((now-at)*7, queue)) }
					acknowledged := flow(acks, [2]time.Duration{at, long})
					sent := flow(acks/2, [2]time.Duration{at, long})
					targets := both()
					targets[0].Ways[1], targets[1].Ways[1] = also, also
					s := run(t, map[string]*line{
						"fibre": {
							rtt:    func(now time.Duration) time.Duration { return 20*ms + delay(now) },
							stream: func(now time.Duration) int { return acknowledged(now - 20*ms) },
							upload: func(now time.Duration) int { return 1500 * (sent(now) + sent(min(now, at+queue))) },
						},
						"lte": {rtt: steady(60 * ms)},
					}, targets, func(*sim) { time.Sleep(2 * time.Minute) })
					s.lived(fibre4, lte4)
				})
			})
		}
	}
}

// The only address that a line is asked about goes deaf while much comes in, and
// is heard by others or by nobody. When nothing comes in any more, it is dead.
func TestDeafProbe(t *testing.T) {
	for _, lte := range []netip.AddrPort{peer4, second4} {
		synctest.Test(t, func(t *testing.T) {
			const deaf, dead = 30 * time.Second, 10 * time.Minute
			targets := both()
			targets[0].Ways, targets[1].Ways = Ways{peer4, second4}, Ways{second4, peer4}
			if lte == second4 {
				targets[0].Ways[1], targets[1].Ways[1] = netip.AddrPort{}, netip.AddrPort{}
			}
			s := run(t, map[string]*line{
				"fibre": {rtt: until(dead, long, steady(20*ms)), beyond: unanswered(deaf, peer4), stream: flow(ms, [2]time.Duration{0, dead})},
				"lte":   {rtt: steady(60 * ms)},
			}, targets, func(s *sim) {
				time.Sleep(dead)
				s.lived(fibre4, lte4)
				time.Sleep(time.Minute)
			})
			if lte == peer4 {
				s.died(fibre4, dead, time.Second)
			}
		})
	}
}

// A line dies while the one who could tell is a modem that sleeps.
func TestWitnessSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at, wakes = 20*time.Second + 7*ms, 1500 * ms
		s := run(t, map[string]*line{
			"fibre": {rtt: until(at, long, steady(20*ms)), stream: flow(ms, [2]time.Duration{0, at})},
			"lte":   {rtt: func(now time.Duration) time.Duration { return max(60*ms, min(wakes, at+wakes-now)) }},
		}, both(), func(*sim) { time.Sleep(time.Minute) })
		s.died(fibre4, at, wakes+400*ms)
		s.lived(lte4)
		if n := s.lines["lte"].sent; n > 25 {
			t.Errorf("LTE was asked %d times in a minute", n)
		}
	})
}

// A family that has nobody to ask does not die with the other where that is away,
// nor while something comes in.
func TestFamiliesDieAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 30 * time.Second
		fibre := &line{rtt: until(at, long, steady(20*ms)), stream: flow(100*ms, [2]time.Duration{0, long})}
		targets := append(both(), Target{Leg: fibre6})
		run(t, map[string]*line{"fibre": fibre, "lte": {rtt: steady(60 * ms)}}, targets, func(s *sim) {
			time.Sleep(2 * time.Minute)
			if h := s.m.Health(); h[fibre4].Verdict != Down || h[fibre6].Verdict != Up {
				t.Errorf("IPv4 is dead: %+v", h)
			}
		})
		run(t, map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": {rtt: steady(60 * ms)}}, targets, func(s *sim) {
			time.Sleep(time.Minute)
			s.m.SetTargets(targets[1:]) // ifup wan
			time.Sleep(100 * ms)
			if h := s.m.Health(); h[fibre4].Verdict != Down || h[fibre6].Verdict != Up {
				t.Errorf("IPv4 is away: %+v", h)
			}
			s.m.SetTargets(targets)
			for range 50 {
				time.Sleep(100 * ms)
				if h := s.m.Health(); h[fibre6].Verdict != Up {
					t.Fatalf("IPv4 is back: %+v", h)
				}
			}
		})
	})
}

// A line that is used now and then dies, while something of its neighbours still
// comes in. What is sent again tells, within a quarter of a second, and costs the
// other line, which sends something by itself, next to nothing.
func TestSentAgain(t *testing.T) {
	for _, noise := range []time.Duration{0, 90 * ms} {
		synctest.Test(t, func(t *testing.T) {
			const at = 40*time.Second + 20*ms
			requests := flow(time.Second, [2]time.Duration{0, long})
			again := func(now time.Duration) int { return requests(now-at-220*ms) * min(1, int(now/at)) }
			fibre := &line{
				rtt:    until(at, long, steady(20*ms)),
				upload: func(now time.Duration) int { return 100 * (requests(now) + again(now)) },
				again:  again,
				stream: func(now time.Duration) int {
					n := requests(min(now, at) - 20*ms)
					if noise > 0 {
						n += int(now / noise)
					}
					return n
				},
			}
			lte := &line{rtt: steady(60 * ms), upload: func(now time.Duration) int { return 60 * int(now/(7*time.Second)) }}
			lte.stream = func(now time.Duration) int { return int((now - 60*ms) / (7 * time.Second)) }
			probed := time.Duration(0)
			s := run(t, map[string]*line{"fibre": fibre, "lte": lte}, both(), func(s *sim) {
				time.Sleep(at)
				before, _ := s.sent("fibre")
				for ; s.now() < at+5*time.Second && probed == 0; time.Sleep(10 * ms) {
					if n, _ := s.sent("fibre"); n > before {
						probed = s.now() - at
					}
				}
				time.Sleep(10 * time.Minute)
			})
			// A request, its repetition, and a quarter of a second.
			if probed == 0 || probed > 1000*ms+220*ms+250*ms+10*ms {
				t.Errorf("probed after %v", probed)
			}
			s.died(fibre4, at, 1500*ms+lostForReceiving+time.Second)
			if n := s.lines["lte"].sent; n > 50 {
				t.Errorf("LTE is asked %d times in 11 minutes", n)
			}
		})
	}
}
