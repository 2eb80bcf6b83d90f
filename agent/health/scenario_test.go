// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"braid/test/link"
	"braid/transport/journal"
)

var (
	fibre4, fibre6 = Leg{"fibre", "fibre", false}, Leg{"fibre", "fibre", true}
	lte4, lte6     = Leg{"lte", "lte", false}, Leg{"lte", "lte", true}
)

// both are two WANs with IPv4 and the same peer.
func both() []Target { return []Target{target("fibre", peer4, false), target("lte", peer4, true)} }

// tcp4 is the peer's port.
var tcp4 = netip.AddrPortFrom(peer4.Addr(), 5124)

const long = 24 * time.Hour

var discard = journal.New(io.Discard)

// A stream over a 20 ms line ends in a black hole.
func TestBlackHoleBusy(t *testing.T) {
	for offset := time.Duration(0); offset < 20*ms; offset += 3 * ms {
		synctest.Test(t, func(t *testing.T) {
			at := 10*time.Second + offset
			s := run(t, map[string]*line{
				"fibre": {rtt: until(at, long, steady(20*ms)), stream: flow(ms, [2]time.Duration{0, at})},
				"lte":   {rtt: steady(60 * ms)},
			}, both(), func(*sim) { time.Sleep(13 * time.Second) })
			s.died(fibre4, at, 210*ms) // LTE has been asked meanwhile
			s.lived(lte4)
		})
	}
}

// What ends is the traffic, again and again; the line is well.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var periods [][2]time.Duration
		for at := time.Duration(0); at < 10*time.Minute; at += 700 * ms {
			periods = append(periods, [2]time.Duration{at, at + 300*ms})
		}
		s := run(t, map[string]*line{
			"fibre": {rtt: steady(20 * ms), stream: flow(ms, periods...)},
			"lte":   {rtt: steady(60 * ms)},
		}, both(), func(*sim) { time.Sleep(10 * time.Minute) })
		s.lived(fibre4, lte4)
		if s.lines["lte"].sent > 30 {
			t.Errorf("the pauses of one WAN cost the other %d probes", s.lines["lte"].sent)
		}
		if s.lines["fibre"].sent > 6000 {
			t.Errorf("%d probes in 10 minutes", s.lines["fibre"].sent)
		}
	})
}

// A monitor at rest wakes seldom, and asks seldom, whatever its lines' neighbours say; and what
// begins then is looked at as closely as ever, should its line die a second later.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const begins, dies = 2 * time.Minute, 2*time.Minute + time.Second
		run(t, map[string]*line{
			"fibre": {rtt: until(dies, long, steady(20*ms)), stream: flow(ms, [2]time.Duration{begins, dies})},
			"lte":   {rtt: steady(60 * ms), stream: flow(40*ms, [2]time.Duration{0, long})},
		}, both(), func(s *sim) {
			time.Sleep(time.Minute)
			before := s.looked()
			time.Sleep(time.Minute - ms)
			if n, most := s.looked()-before, int(time.Minute/restTick)*11/10; n > most {
				t.Errorf("%d looks in a minute, %d are the most", n, most)
			}
			if n, _ := s.sent("lte"); n > startProbes+5 {
				t.Errorf("%d probes in two minutes", n)
			}
			time.Sleep(5 * time.Second)
			s.died(fibre4, dies, silenceFixed+2*fastTick)
			s.lived(lte4)
		})
	})
}

// A line of any round trip that has carried something, or has lost a probe, is asked no
// more once it is idle again: what answers us is no traffic.
func TestQuietAgain(t *testing.T) {
	for _, rtt := range []time.Duration{30 * ms, 60 * ms, 100 * ms, 150 * ms, 400 * ms} {
		for name, l := range map[string]*line{
			"a stream":     {rtt: steady(rtt), stream: flow(5*ms, [2]time.Duration{40 * time.Second, 50 * time.Second})},
			"a loss":       {rtt: until(28*time.Second, 10*time.Second, steady(rtt))},
			"no answer":    {rtt: steady(rtt), upload: func(at time.Duration) int { return 100 * min(1, int(at/(45*time.Second))) }},
			"some packets": {rtt: steady(rtt), stream: flow(20*ms, [2]time.Duration{49 * time.Second, 50 * time.Second})},
		} {
			t.Run(fmt.Sprintf("%v, %s", rtt, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					run(t, map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": l}, both(), func(s *sim) {
						time.Sleep(time.Minute)
						before, _ := s.sent("lte")
						time.Sleep(time.Minute)
						if after, _ := s.sent("lte"); after-before > 10 {
							t.Errorf("%d probes in an idle minute", after-before)
						}
						s.lived(fibre4)
					})
				})
			})
		}
	}
}

// Nothing is carried when the line dies: a probe has to find out.
func TestBlackHoleIdle(t *testing.T) {
	tests := []struct {
		name       string
		fibre, lte time.Duration
		dead       string
		within     time.Duration // after the first probe that is lost
	}{
		{"fixed", 20 * ms, 60 * ms, "fibre", 1500 * ms},
		{"cellular", 20 * ms, 60 * ms, "lte", 3500 * ms},
		{"fixed, beside a slow one", 20 * ms, 900 * ms, "fibre", 3 * time.Second},
		{"slow", 20 * ms, 900 * ms, "lte", 6 * time.Second},
	}
	for _, tt := range tests {
		var found []time.Duration // in either way
		for _, w := range []Ways{{peer4}, {peer4, tcp4}} {
			t.Run(fmt.Sprintf("%s, %v", tt.name, w), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const at = 95 * time.Second
					lines := map[string]*line{"fibre": {rtt: steady(tt.fibre)}, "lte": {rtt: steady(tt.lte)}}
					lines[tt.dead].rtt = until(at, long, lines[tt.dead].rtt)
					targets := both()
					targets[0].Ways, targets[1].Ways = w, w
					s := run(t, lines, targets, func(*sim) { time.Sleep(5 * time.Minute) })
					s.died(Leg{WAN: tt.dead, Device: tt.dead}, at, idleInterval+tt.within)
					for _, c := range s.changes(Leg{WAN: tt.dead, Device: tt.dead}, at) {
						if c.Verdict == Down {
							found = append(found, c.at)
						}
					}
					for p := range s.m.Health() {
						if p.WAN != tt.dead {
							s.lived(p)
						}
					}
				})
			})
		}
		if len(found) != 2 || found[0] != found[1] {
			t.Errorf("%s: found at %v, a second way makes a difference", tt.name, found)
		}
	}
}

// The peer dies, while both WANs are busy and while both are idle, and comes
// back. One of them may be taken for dead for a moment, never both.
func TestPeerDies(t *testing.T) {
	tests := []struct {
		name         string
		fibre, lte   time.Duration // RTT
		busyF, busyL bool
		patient      bool
	}{
		{name: "idle", fibre: 20 * ms, lte: 60 * ms, patient: true},
		{name: "both busy", fibre: 20 * ms, lte: 60 * ms, busyF: true, busyL: true, patient: true},
		{name: "two of a kind", fibre: 20 * ms, lte: 20 * ms, busyF: true, busyL: true},
		{name: "fibre busy", fibre: 20 * ms, lte: 60 * ms, busyF: true, patient: true},
		{name: "far", fibre: 20 * ms, lte: 600 * ms, busyF: true, busyL: true, patient: true},
	}
	for _, tt := range tests {
		for _, w := range []Ways{{peer4}, {peer4, tcp4}} {
			t.Run(fmt.Sprintf("%s, %v", tt.name, w), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const at = 40*time.Second + 123*ms
					lines := map[string]*line{
						"fibre": {rtt: until(at, 5*time.Minute, steady(tt.fibre))},
						"lte":   {rtt: until(at, 5*time.Minute, steady(tt.lte))},
					}
					if tt.busyF {
						lines["fibre"].stream = flow(ms, [2]time.Duration{0, at + tt.fibre/2})
					}
					if tt.busyL {
						lines["lte"].stream = flow(ms, [2]time.Duration{0, at + tt.lte/2})
					}
					targets := both()
					targets[0].Ways, targets[1].Ways, targets[1].Patient = w, w, tt.patient
					run(t, lines, targets, func(s *sim) {
						for s.now() < 5*time.Minute {
							time.Sleep(10 * ms)
							h := s.m.Health()
							if h[fibre4].Verdict == Down && h[lte4].Verdict == Down {
								t.Fatalf("after %v both are down: %+v", s.now()-at, h)
							}
						}
						for p, h := range s.m.Health() {
							if h.Verdict != Degraded {
								t.Errorf("in the end %+v is %+v", p, h)
							}
						}
						back := s.now()
						time.Sleep(5 * time.Minute)
						for p := range s.m.Health() {
							for _, c := range s.changes(p, back) {
								if c.Verdict == Down {
									t.Errorf("when the peer is back: %+v", c)
								}
							}
						}
					})
				})
			})
		}
	}
}

// Where nobody answers a ping, no WAN is worse than another, however they are
// used.
func TestFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(time.Duration) time.Duration { return -1 }
		s := run(t, map[string]*line{
			"fibre": {rtt: never, stream: flow(ms, [2]time.Duration{5 * time.Second, 10 * time.Second}, [2]time.Duration{20 * time.Second, 21 * time.Second})},
			"lte":   {rtt: never},
		}, both(), func(s *sim) {
			time.Sleep(time.Minute)
			s.m.SetTargets(both()[:1])
			time.Sleep(time.Second)
			if h := s.m.Health()[lte4]; h.Verdict != Down || h.Reason != "was away" {
				t.Errorf("lte is away: %+v", h)
			}
			s.m.SetTargets(both())
			time.Sleep(20 * time.Second)
			if h := s.m.Health()[lte4]; h.Verdict == Down {
				t.Errorf("lte is back: %+v", h)
			}
		})
		s.lived(fibre4)
	})
}

// A carrier that drops pings is no reason to doubt the line that is dead.
func TestFilteredOnTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 60 * time.Second
		s := run(t, map[string]*line{
			"fibre": {rtt: until(at, long, steady(20*ms))},
			"lte":   {rtt: func(time.Duration) time.Duration { return -1 }},
		}, both(), func(*sim) { time.Sleep(10 * time.Minute) })
		s.died(fibre4, at, idleInterval+1500*ms)
		if c := s.changes(fibre4, at); len(c) != 1 {
			t.Errorf("it came to life: %+v", c)
		}
	})
}

// One family of the peer does not answer, over no WAN.
func TestFilteredInOneFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": {rtt: steady(60 * ms)}}
		never := func(time.Duration) time.Duration { return -1 }
		targets := append(both(), target("fibre", peer6, false), target("lte", peer6, true))
		targets[0].Device, targets[1].Device = "fibre4", "lte4"
		lines["fibre4"], lines["lte4"] = &line{rtt: never}, &line{rtt: never}
		s := run(t, lines, targets, func(*sim) { time.Sleep(5 * time.Minute) })
		s.lived(fibre4, fibre6, lte4, lte6)
	})
}

// A family that has nobody to ask shares the fate of the one that has.
func TestNobodyToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 10 * time.Second
		lines := map[string]*line{
			"fibre": {rtt: until(at, 30*time.Second, steady(20*ms)), stream: flow(ms, [2]time.Duration{0, at})},
			"lte":   {rtt: steady(60 * ms)},
		}
		targets := append(both(), Target{Leg: fibre6}, Target{Leg: lte6})
		run(t, lines, targets, func(s *sim) {
			time.Sleep(20 * time.Second)
			if h := s.m.Health(); h[fibre6].Verdict != Down || h[lte6].Verdict != Up {
				t.Errorf("fibre is dead: %+v", h)
			}
			time.Sleep(30 * time.Second)
			if h := s.m.Health(); h[fibre6].Verdict != Up {
				t.Errorf("fibre is back: %+v", h)
			}
			s.m.SetTargets(targets[:3])
			s.m.SetTargets(targets)
			if h := s.m.Health()[lte6]; h.Verdict != Down {
				t.Errorf("lte was away: %+v", h)
			}
			time.Sleep(proof + time.Second)
			if h := s.m.Health()[lte6]; h.Verdict != Up {
				t.Errorf("lte has been back for long: %+v", h)
			}
		})
	})
}

// A line's IPv4 by way of a translator fails alone: of its IPv6, which has
// nobody to ask, that says nothing.
func TestTranslatorFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := map[string]*line{
			"fibre": {rtt: steady(20 * ms)},
			"clat":  {rtt: until(10*time.Second, time.Hour, steady(60*ms))},
		}
		targets := append(both(), Target{Leg: lte6})
		targets[1].Device = "clat"
		translated := targets[1].Leg
		run(t, lines, targets, func(s *sim) {
			time.Sleep(time.Minute)
			if h := s.m.Health(); h[translated].Verdict != Down || h[lte6].Verdict != Up {
				t.Errorf("%+v", h)
			}
		})
	})
}

// The round trip of a loaded line rises to more than it ever was.
func TestBufferbloat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 60 * time.Second
		bloated := func(now time.Duration) time.Duration {
			if now < at {
				return 20 * ms
			}
			return min(20*ms+(now-at)*2, 2*time.Second)
		}
		s := run(t, map[string]*line{
			"fibre": {rtt: bloated, stream: flow(ms, [2]time.Duration{at, long})},
			"lte":   {rtt: steady(60 * ms)},
		}, both(), func(*sim) { time.Sleep(5 * time.Minute) })
		s.lived(fibre4)
		if h := s.m.Health()[fibre4]; h.RTT < time.Second {
			t.Errorf("RTT %v", h.RTT)
		}
	})
}

// A modem that sleeps answers late, each time it is asked.
func TestModemThatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		awake := time.Duration(0)
		s := run(t, map[string]*line{
			"fibre": {rtt: steady(20 * ms)},
			"lte": {rtt: func(at time.Duration) time.Duration {
				d := 60 * ms
				if at > awake {
					d = 2500 * ms
				}
				awake = at + 10*time.Second
				return d
			}},
		}, both(), func(*sim) { time.Sleep(time.Hour) })
		s.lived(fibre4, lte4)
		if n := s.lines["lte"].sent; n > 180 {
			t.Errorf("%d probes in an hour", n)
		}
	})
}

// lteSlots are when packets arrive over a cellular line that carries all it
// can.
func lteSlots(t *testing.T, seed uint64, length time.Duration) (slots arrivals) {
	t.Helper()
	for trace, base := link.LTE(seed), time.Duration(0); base < length; base = slots[len(slots)-1] {
		var text bytes.Buffer
		trace.WriteTo(&text)
		for in := bufio.NewScanner(&text); in.Scan(); {
			v, err := strconv.Atoi(in.Text())
			if err != nil {
				t.Fatal(err)
			}
			slots = append(slots, base+time.Duration(v)*ms)
		}
	}
	return slots
}

// late is the round trip of a probe that is answered in the next slot.
func (a arrivals) late(at time.Duration) time.Duration { return a.next(at+40*ms) - at + 20*ms }

// 5 % of the probes of a busy line are lost.
func TestLoss(t *testing.T) {
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
		}, both(), func(*sim) { time.Sleep(10 * time.Minute) })
		s.lived(fibre4, lte4)
		if h := s.m.Health()[fibre4]; h.Loss != 0.05 {
			t.Errorf("%+v", h)
		}
		if n := s.lines["lte"].sent; n > 30 {
			t.Errorf("the loss of one WAN has the other probed %d times in 10 minutes", n)
		}
	})
}

// Down, back, down again: each time found in time and trusted late enough.
func TestFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 2 * time.Minute
		dead := func(at time.Duration) bool { return at%period > time.Minute && at%period < 70*time.Second }
		s := run(t, map[string]*line{
			"fibre": {
				rtt: func(at time.Duration) time.Duration {
					if dead(at) {
						return -1
					}
					return 20 * ms
				},
				stream: func(at time.Duration) int {
					n := int(at/period) * 110_000
					rest := at % period
					return n + int((min(rest, time.Minute)+max(0, rest-70*time.Second))/ms)
				},
			},
			"lte": {rtt: steady(60 * ms)},
		}, both(), func(*sim) { time.Sleep(12 * period) })
		var down, up []time.Duration
		for _, c := range s.changes(fibre4, 0) {
			switch {
			case c.Verdict == Down:
				down = append(down, c.at%period-time.Minute)
			case len(up) < len(down):
				up = append(up, c.at%period-70*time.Second)
			}
		}
		if len(down) != 12 {
			t.Fatalf("%d deaths in 12 outages", len(down))
		}
		for i, d := range down {
			if d > 190*ms {
				t.Errorf("outage %d found after %v", i, d)
			}
		}
		for i, u := range up {
			if i == 0 && u > proof+deadInterval+urgentInterval || (u+period)%period < proof || (u+period)%period > maxProof+deadInterval+urgentInterval {
				t.Errorf("outage %d: trusted after %v", i, u)
			}
		}
	})
}
