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

// Another peer, its port, and a third one.
var (
	third4    = netip.MustParseAddrPort("192.0.2.30:0")
	second4   = netip.MustParseAddrPort("192.0.2.20:0")
	secondTCP = netip.AddrPortFrom(second4.Addr(), 5124)
)

// asking are two WANs that are asked in some ways.
func asking(w ...netip.AddrPort) []Target {
	targets := both()
	for i := range targets {
		copy(targets[i].Ways[:], w)
		for n := len(w); n < len(targets[i].Ways); n++ {
			targets[i].Ways[n] = netip.AddrPort{}
		}
	}
	return targets
}

// unanswered are ways in which nobody answers, from a time on.
func unanswered(from time.Duration, dead ...netip.AddrPort) func(netip.AddrPort, time.Duration) time.Duration {
	return func(to netip.AddrPort, at time.Duration) time.Duration {
		for _, d := range dead {
			if to == d && at >= from {
				return -1
			}
		}
		return 0
	}
}

// Whatever does not answer: as long as one way does, the WANs are up with
// their round trips and without a loss, and a black hole is found as soon as
// ever.
func TestOneWayAnswers(t *testing.T) {
	all := []netip.AddrPort{peer4, tcp4, second4, secondTCP}
	for answers, alive := range all {
		for _, busy := range []bool{false, true} {
			for _, from := range []time.Duration{0, 47 * time.Second} {
				t.Run(fmt.Sprintf("only %v, busy %v, from %v on", alive, busy, from), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var dead []netip.AddrPort
						for i, to := range all {
							if i != answers {
								dead = append(dead, to)
							}
						}
						const at, back = 10 * time.Minute, 12 * time.Minute
						beyond := unanswered(from, dead...)
						lines := map[string]*line{
							"fibre": {rtt: until(at, back-at, steady(20*ms)), beyond: beyond},
							"lte":   {rtt: steady(60 * ms), beyond: beyond},
						}
						if busy {
							lines["fibre"].stream = flow(ms, [2]time.Duration{0, at}, [2]time.Duration{back, long})
						}
						s := run(t, lines, asking(all...), func(s *sim) {
							time.Sleep(at - 100*ms)
							for p, h := range s.m.Health() {
								if h.Verdict != Up || h.Loss > 0 && busy || h.RTT.Round(ms) != lines[p.WAN].rtt(0) {
									t.Errorf("%v: %+v", p, h)
								}
							}
							time.Sleep(back + 10*time.Second - s.now())
							if h := s.m.Health()[fibre4]; h.Verdict == Down {
								t.Errorf("the line is back: %+v", h)
							}
						})
						within := 190 * ms
						if !busy {
							within = idleTCPInterval + 1500*ms
						}
						var deaths []change
						for _, c := range s.changes(fibre4, 0) {
							if c.Verdict == Down {
								deaths = append(deaths, c)
							}
						}
						if len(deaths) != 1 || deaths[0].at < at || deaths[0].at > at+within {
							t.Errorf("deaths %+v, want one between %v and %v", deaths, at, at+within)
						}
						s.lived(lte4)
					})
				})
			}
		}
	}
}

// Where a dead line is asked seldom, it is in every way.
func TestDeadForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 10 * time.Minute
		run(t, map[string]*line{
			"fibre": {rtt: steady(20 * ms)},
			"lte":   {rtt: until(at, long, steady(60*ms)), beyond: unanswered(0, peer4)},
		}, asking(peer4, tcp4), func(s *sim) {
			time.Sleep(at)
			before, beforeTCP := s.sent("lte")
			time.Sleep(time.Hour)
			all, tcp := s.sent("lte")
			all, tcp = all-before, tcp-beforeTCP
			most := patientDeadProbes + 10 + int(time.Hour/patientDeadInterval)
			if all > most || tcp < all*2/5 || tcp > all*3/5 {
				t.Errorf("%d probes in an hour, %d by TCP; want at most %d, half of them by TCP", all, tcp, most)
			}
		})
	})
}

// One loss now and then is no reason to ask otherwise for long.
func TestLossDoesNotWander(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := run(t, map[string]*line{
			"fibre": {rtt: func(time.Duration) time.Duration {
				if n++; n%20 == 0 {
					return -1
				}
				return 20 * ms
			}, stream: flow(ms, [2]time.Duration{0, long})},
			"lte": {rtt: steady(60 * ms)},
		}, asking(peer4, tcp4), func(*sim) { time.Sleep(10 * time.Minute) })
		s.lived(fibre4, lte4)
		if h := s.m.Health()[fibre4]; h.Loss != 0.05 {
			t.Errorf("%+v", h)
		}
		if l := s.lines["fibre"]; l.sentTCP < l.sent/25 || l.sentTCP > l.sent/10 {
			t.Errorf("%d of %d probes by TCP", l.sentTCP, l.sent)
		}
	})
}

// After an outage in which no way was answered, the preferred one is again,
// whichever is the first to be.
func TestPreferredAgain(t *testing.T) {
	for n := range time.Duration(2) {
		synctest.Test(t, func(t *testing.T) {
			run(t, map[string]*line{
				"fibre": {rtt: until(time.Minute, 5*time.Minute+n*deadInterval, steady(20*ms))},
				"lte":   {rtt: steady(60 * ms)},
			}, asking(peer4, tcp4), func(s *sim) {
				time.Sleep(6*time.Minute - ms)
				if all, tcp := s.sent("fibre"); tcp < all/3 || tcp > all*2/3 {
					t.Errorf("while the line was dead %d of %d probes were by TCP", tcp, all)
				}
				time.Sleep(10 * time.Second)
				all, tcp := s.sent("fibre")
				time.Sleep(5 * time.Minute)
				if now, nowTCP := s.sent("fibre"); now == all || nowTCP > tcp {
					t.Errorf("then %d of %d", nowTCP-tcp, now-all)
				}
			})
		})
	}
}

// The round trip is that of one peer, and changes at once with it.
func TestRoundTripOfAnotherPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = time.Minute
		beyond := func(to netip.AddrPort, now time.Duration) time.Duration {
			switch {
			case to.Addr() != peer4.Addr():
				return 300 * ms
			case now > at, now > at/2 && now < at/2+1200*ms: // one loss in each way
				return -1
			}
			return 0
		}
		run(t, map[string]*line{
			"fibre": {rtt: steady(20 * ms), beyond: beyond, stream: flow(ms, [2]time.Duration{0, long})},
			"lte":   {rtt: steady(60 * ms), beyond: beyond},
		}, asking(peer4, tcp4, second4), func(s *sim) {
			time.Sleep(100 * ms)
			for s.now() < 3*time.Minute {
				time.Sleep(100 * ms)
				rtt := s.m.Health()[fibre4].RTT.Round(ms)
				if rtt != 20*ms && (rtt != 320*ms || s.now() < at) {
					t.Fatalf("after %v: %v", s.now(), rtt)
				}
			}
			if h := s.m.Health()[fibre4]; h.Verdict != Up || h.RTT.Round(ms) != 320*ms {
				t.Errorf("%+v", h)
			}
			s.lived(fibre4, lte4)
		})
	})
}

// That a WAN which asks somebody else is answered says nothing of a peer,
// unless there is no WAN that asks that one too.
func TestWhoIsAsked(t *testing.T) {
	tests := []struct {
		name       string
		lte, cable Ways
		fibre      Verdict        // when its peer is dead
		peersAlive bool           // then fibre itself is
		also       netip.AddrPort // fibre asks it as well
		answers    bool           // that one
	}{
		{name: "one asks the same", lte: Ways{second4}, cable: Ways{peer4}, fibre: Degraded},
		{name: "one asks it by TCP", lte: Ways{second4}, cable: Ways{tcp4}, fibre: Degraded},
		{name: "one asks it too, and is answered by another", lte: Ways{peer4, second4}, cable: Ways{peer4}, fibre: Degraded},
		{name: "none asks the same", lte: Ways{second4}, cable: Ways{secondTCP}, fibre: Degraded},
		{name: "none asks the same, a second one is silent too", also: third4, lte: Ways{second4}, cable: Ways{secondTCP}, fibre: Down},
		{name: "a second one is silent too, on all", also: second4, lte: Ways{peer4}, cable: Ways{second4}, fibre: Degraded},
		{name: "a second one answers", also: third4, answers: true, lte: Ways{second4}, cable: Ways{secondTCP}, fibre: Up},
		{name: "one asks the same, and is answered", lte: Ways{second4}, cable: Ways{peer4}, peersAlive: true, fibre: Down},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const at = time.Minute
				cable := target("cable", peer4, false)
				cable.Ways = tt.cable
				targets := append(both(), cable)
				targets[1].Ways = tt.lte
				targets[0].Ways[1] = tt.also
				lines := map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": {rtt: steady(60 * ms)}, "cable": {rtt: steady(30 * ms)}}
				if tt.peersAlive {
					lines["fibre"].rtt = until(at, long, steady(20*ms))
				} else {
					for _, l := range lines {
						l.beyond = unanswered(at, peer4, tcp4, tt.also)
						if tt.answers {
							l.beyond = unanswered(at, peer4, tcp4)
						}
					}
				}
				run(t, lines, targets, func(s *sim) {
					time.Sleep(at + idleTCPInterval + 10*time.Second)
					if h := s.m.Health()[fibre4]; h.Verdict != tt.fibre {
						t.Errorf("%+v, want %v", h, tt.fibre)
					}
				})
			})
		})
	}
}

func TestWaysString(t *testing.T) {
	six := netip.AddrPortFrom(peer6.Addr(), 5124)
	tests := []struct {
		w    Ways
		want string
	}{
		{Ways{}, ""},
		{Ways{peer4, tcp4}, "192.0.2.10,192.0.2.10:5124"},
		{Ways{peer6, six}, "2001:db8:10::10,[2001:db8:10::10]:5124"},
	}
	for _, tt := range tests {
		if got := tt.w.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
