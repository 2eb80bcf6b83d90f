// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/transport/mptcp"
)

const ms = time.Millisecond

// simulated is a subflow of a test: fed what it sends, its line acknowledges.
type simulated struct {
	mptcp.Subflow
	acks         func(at time.Duration) int // packets acknowledged by then; nil: sends nothing
	size         int                        // packets there are to send; 0: no end
	starts, ends time.Duration              // is there between these; 0: always
}

func flow(port uint16, rtt time.Duration, acks func(time.Duration) int) *simulated {
	return &simulated{acks: acks, Subflow: mptcp.Subflow{
		Local:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), port),
		Remote:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2}), 5124),
		TCPInfo: mptcp.TCPInfo{State: mptcp.StateEstablished, RTT: rtt, RTTVar: rtt / 8},
	}}
}

// steady acknowledges a packet each millisecond, but in the periods.
func steady(but ...[2]time.Duration) func(time.Duration) int {
	return func(at time.Duration) int {
		n := at / ms
		for _, p := range but {
			n -= max(0, min(at, p[1])-p[0]) / ms
		}
		return int(n)
	}
}

// at is the subflow as it stands.
func (s *simulated) at(now time.Duration) mptcp.Subflow {
	f := s.Subflow
	if s.acks != nil {
		f.BytesAcked, f.Unacked = uint64(1448*s.acks(now)), 100
	}
	if n := s.size; n > 0 && s.acks(now) >= n {
		f.BytesAcked, f.Unacked = uint64(1448*n), 0
	}
	return f
}

const never = time.Hour

func TestDead(t *testing.T) {
	var gaps [][2]time.Duration // as a cellular line has them
	for at := 5 * time.Second; at < time.Minute; at += 8 * time.Second {
		gaps = append(gaps, [2]time.Duration{at, at + 450*ms})
	}
	longer := [][2]time.Duration{{5 * time.Second, 5400 * ms}, {10 * time.Second, 10700 * ms}, {20 * time.Second, 20900 * ms}}
	stalls := steady([2]time.Duration{3 * time.Second, never})
	ends := flow(1, 20*ms, stalls)
	ends.ends = 3400 * ms
	drained := flow(1, 20*ms, steady())
	drained.size = 3000
	comes := flow(3, 20*ms, func(time.Duration) int { return 1 })
	comes.starts = 5 * time.Second
	tests := []struct {
		name  string
		flows []*simulated
		want  []uint16 // ports of those given up
		after time.Duration
		until time.Duration
	}{
		{"all is well", []*simulated{flow(1, 20*ms, steady()), flow(2, 60*ms, steady())}, nil, 0, 0},
		{"one stalls", []*simulated{flow(1, 20*ms, stalls), flow(2, 60*ms, steady())},
			[]uint16{1}, 3*time.Second + unacknowledged, 3*time.Second + unacknowledged + 2*fastTick},
		{"a slow one stalls", []*simulated{flow(1, 1200*ms, stalls), flow(2, 60*ms, steady())},
			[]uint16{1}, 4800 * ms, 4800*ms + 2*fastTick},
		{"all stall", []*simulated{flow(1, 20*ms, stalls), flow(2, 60*ms, stalls)}, nil, 0, 0},
		{"all stall, one goes on", []*simulated{flow(1, 20*ms, stalls), flow(2, 60*ms, steady([2]time.Duration{3 * time.Second, 6 * time.Second}))},
			[]uint16{1}, 6 * time.Second, 6*time.Second + 2*fastTick},
		{"two of three stall", []*simulated{flow(1, 20*ms, stalls), flow(2, 60*ms, stalls), flow(3, 20*ms, steady())},
			[]uint16{1, 2}, 3*time.Second + unacknowledged, 3*time.Second + unacknowledged + 2*fastTick},
		{"one is not used", []*simulated{flow(1, 20*ms, nil), flow(2, 60*ms, steady())}, nil, 0, 0},
		{"alone", []*simulated{flow(1, 20*ms, stalls)}, nil, 0, 0},
		{"gaps", []*simulated{flow(1, 60*ms, steady(gaps...)), flow(2, 20*ms, steady())}, nil, 0, 0},
		{"gaps that grow", []*simulated{flow(1, 60*ms, steady(longer...)), flow(2, 20*ms, steady())}, nil, 0, 0},
		{"dead after gaps", []*simulated{flow(1, 60*ms, steady(append(longer, [2]time.Duration{30 * time.Second, never})...)), flow(2, 20*ms, steady())},
			[]uint16{1}, 31800 * ms, 31800*ms + 3*fastTick},
		{"one ends", []*simulated{ends, flow(2, 60*ms, steady())}, nil, 0, 0},
		// What stalls together with all others is not dead because another comes.
		{"one comes that acknowledges nothing", []*simulated{flow(1, 20*ms, stalls), comes}, nil, 0, 0},
		{"one has nothing to send any more", []*simulated{drained, flow(2, 60*ms, steady())}, nil, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w Ward
			var got []uint16
			start := time.Unix(1_000_000, 0)
			for at := time.Duration(0); at < time.Minute; at += fastTick {
				var flows []mptcp.Subflow
				for _, s := range tt.flows {
					if at >= s.starts && (s.ends == 0 || at < s.ends) {
						flows = append(flows, s.at(at))
					}
				}
				for _, f := range w.dead(flows, start.Add(at)) {
					got = append(got, f.Local.Port())
					if at < tt.after || at > tt.until {
						t.Errorf("%d given up after %v, want %v to %v", f.Local.Port(), at, tt.after, tt.until)
					}
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("given up (-want +got):\n%s", d)
			}
		})
	}
}

// Where a subflow is in doubt, the connection is watched until that is over,
// though it has nothing to send.
func TestWatchedWhileInDoubt(t *testing.T) {
	var w Ward
	start := time.Unix(1_000_000, 0)
	flows := []*simulated{flow(1, 20*ms, steady([2]time.Duration{3 * time.Second, never})), flow(2, 60*ms, steady())}
	for at := time.Duration(0); at < 4*time.Second; at += fastTick {
		w.dead([]mptcp.Subflow{flows[0].at(at), flows[1].at(at)}, start.Add(at))
		if at < 3*time.Second && !w.until.IsZero() {
			t.Fatalf("in doubt after %v", at)
		}
	}
	if until := w.until.Sub(start); until < 4*time.Second || until > 3*time.Second+unacknowledged+2*fastTick+calm {
		t.Errorf("watched until %v", until)
	}
}

func TestSize(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	const second = time.Second
	// A scene of a connection: rates in Mbit/s of two lines of 20 and 60 ms.
	type rates [2]uint64
	run := func(w *Ward, from, length time.Duration, r rates, paths int) (set []int) {
		for at := from; at < from+length; at += fastTick {
			var flows []mptcp.Subflow
			for i := range paths {
				f := flow(uint16(i), []time.Duration{20 * ms, 60 * ms}[i], nil).Subflow
				f.DeliveryRate = r[i] * 1e6 / 8
				flows = append(flows, f)
			}
			w.dead(flows, start.Add(at))
			if n, change := w.size(flows, 0, start.Add(at)); change {
				w.set = n
				set = append(set, n)
			}
		}
		return set
	}
	bound := func(mbit20, mbit60 float64) int {
		return int(bdps*(mbit20*1e6/8*0.02+mbit60*1e6/8*0.06)) * overheadNum / overheadDen
	}
	near := func(got, want int) bool { return got >= want*9/10 && got <= want*11/10 }

	t.Run("follows", func(t *testing.T) {
		var w Ward
		got := run(&w, 0, 10*second, rates{50, 20}, 2)
		if len(got) == 0 || got[0] != initial || !near(w.set, bound(50, 20)) {
			t.Errorf("set %d, want %d to %d", got, initial, bound(50, 20))
		}
		for i := 1; i < len(got); i++ {
			if got[i] >= got[i-1] || got[i] < got[i-1]*8/10 {
				t.Errorf("lowered from %d to %d", got[i-1], got[i])
			}
		}
		if len(got) > 10 {
			t.Errorf("%d changes", len(got))
		}
		// More is given at once.
		got = run(&w, 10*second, 2*fastTick, rates{100, 80}, 2)
		if len(got) != 1 || !near(got[0], bound(100, 80)) {
			t.Errorf("raised to %d, want %d", got, bound(100, 80))
		}
		// Less is taken once the horizon has passed, and in steps.
		if got = run(&w, 11*second, horizon/2-second, rates{5, 2}, 2); len(got) != 0 {
			t.Errorf("lowered to %d within the horizon", got)
		}
		run(&w, 11*second+horizon/2-second, 2*horizon, rates{5, 2}, 2)
		if !near(w.set, smallest) {
			t.Errorf("lowered to %d, want %d", w.set, smallest)
		}
	})
	t.Run("raised by more than it begins with", func(t *testing.T) {
		var w Ward
		if got := run(&w, 0, second, rates{100, 80}, 2); len(got) != 1 || !near(got[0], bound(100, 80)) {
			t.Errorf("set %d, want %d", got, bound(100, 80))
		}
	})
	t.Run("one that fits is set too", func(t *testing.T) {
		var w Ward
		if got := run(&w, 0, second, rates{40, 40}, 2); len(got) == 0 {
			t.Errorf("the kernel's tuning goes on, and %d would do", bound(40, 40))
		}
	})
	t.Run("too fast for a bound", func(t *testing.T) {
		var w Ward
		if got := run(&w, 0, 10*second, rates{5000, 20}, 2); got != nil {
			t.Errorf("set %d", got)
		}
	})
	t.Run("one path of two is left", func(t *testing.T) {
		var w Ward
		run(&w, 0, 10*second, rates{50, 20}, 2)
		run(&w, 10*second, 20*second, rates{50, 0}, 1)
		if !near(w.set, bound(50, 0)) {
			t.Errorf("set %d, want %d", w.set, bound(50, 0))
		}
	})
	// What has arrived and waits has room beside what is on the paths, and keeps it
	// until these take it.
	t.Run("bytes wait", func(t *testing.T) {
		var w Ward
		waits := func(from, length time.Duration, arrived, notSent int) (least, most int) {
			for at := from; at < from+length; at += fastTick {
				f, g := flow(1, 20*ms, nil).Subflow, flow(2, 60*ms, nil).Subflow
				f.DeliveryRate, f.Unacked, f.SndMSS = 50e6/8, 40, 1448
				g.DeliveryRate, g.Unacked, g.SndMSS, g.NotSent = 20e6/8, 60, 1448, notSent
				w.dead([]mptcp.Subflow{f, g}, start.Add(at))
				if n, change := w.size([]mptcp.Subflow{f, g}, 100*1448+notSent+arrived, start.Add(at)); change {
					w.set = n
				}
				if at == from {
					least = w.set
				}
				least, most = min(least, w.set), max(most, w.set)
			}
			return least, most
		}
		plain := bound(50, 20)
		if _, most := waits(0, 10*second, 0, 0); !near(w.set, plain) || most != initial {
			t.Errorf("set %d, at most %d, and nothing waits", w.set, most)
		}
		roomy := plain + 400_000*overheadNum/overheadDen*waitingNum/waitingDen
		if least, most := waits(10*second, second, 400_000, 0); !near(least, roomy) || !near(most, roomy) {
			t.Errorf("set %d to %d, want %d", least, most, roomy)
		}
		if least, _ := waits(11*second, 10*second, 0, 0); !near(least, roomy) {
			t.Errorf("set %d when none waits any more, want %d", least, roomy)
		}
		if least, _ := waits(21*second, fade/2, 0, roomy); near(least, roomy) || near(least, plain) {
			t.Errorf("set %d in the middle of %v, is to be between %d and %d", least, fade, plain, roomy)
		}
		waits(21*second+fade/2, 5*fade, 0, roomy)
		if !near(w.set, plain) {
			t.Errorf("set %d when the paths have taken what waited had, want %d", w.set, plain)
		}
		if waits(30*second, second, 100<<20, roomy); w.set != roomiest {
			t.Errorf("set %d, want %d", w.set, roomiest)
		}
	})
	t.Run("none is left, and one returns", func(t *testing.T) {
		var w Ward
		run(&w, 0, 10*second, rates{50, 20}, 2)
		run(&w, 10*second, 10*second, rates{}, 0)
		if !near(w.set, smallest) {
			t.Errorf("set %d, want %d", w.set, smallest)
		}
		run(&w, 20*second, 100*ms, rates{50, 20}, 2)
		if !near(w.set, bound(50, 20)) {
			t.Errorf("set %d, want %d", w.set, bound(50, 20))
		}
	})
}

// One path is the kernel's to tune.
func TestOnePath(t *testing.T) {
	w := Ward{conn: loopback(t)}
	var g Guard
	for range 3 {
		g.look(&w, time.Now())
	}
	if len(w.flows) != 1 || w.set != 0 {
		t.Errorf("%d subflows, bound set to %d", len(w.flows), w.set)
	}
}

func loopback(t testing.TB) *mptcp.Conn {
	t.Helper()
	l, err := mptcp.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := new(mptcp.Dialer).Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestExtremes(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	var high maximum
	var low minimum
	for at := time.Duration(0); at <= horizon; at += 100 * ms {
		v := 10.
		if at == time.Second {
			v = 20
		}
		high.add(start.Add(at), v)
		low.add(start.Add(at), -v)
		want := 10.
		if at >= time.Second && at <= horizon {
			want = 20
		}
		if high.value() != want || low.value() != -want {
			t.Fatalf("after %v: %v and %v, want %v and its negative", at, high.value(), low.value(), want)
		}
	}
	for at := horizon + 100*ms; at <= 2*horizon; at += 100 * ms {
		high.add(start.Add(at), 10)
		low.add(start.Add(at), -10)
	}
	if high.value() != 10 || low.value() != -10 {
		t.Errorf("the past is not forgotten: %v, %v", high.value(), low.value())
	}
}

func TestPace(t *testing.T) {
	for busy, want := range map[int]time.Duration{0: fastTick, 1: fastTick, dense: fastTick, 2 * dense: 2 * fastTick, 1000: slowTick} {
		if got := pace(busy); got != want {
			t.Errorf("%d busy: %v, want %v", busy, got, want)
		}
	}
}

// BenchmarkLook is what a busy connection costs each tick.
func BenchmarkLook(b *testing.B) {
	w := &Ward{conn: loopback(b)}
	var g Guard
	b.ReportAllocs()
	for b.Loop() {
		g.look(w, time.Now())
	}
	if len(w.flows) != 1 {
		b.Fatalf("%d subflows", len(w.flows))
	}
}
