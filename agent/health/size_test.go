// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// What a line carries is found to four bytes, soon after its start, and at little
// cost; a size that nobody hinders is left alone, and one that cannot be asked for
// as well.
func TestSize(t *testing.T) {
	for _, tt := range []struct {
		size, mtu int
		want      int
		within    time.Duration
		cost      int // bytes
	}{
		{size: 1500, mtu: 1500, cost: 1500},
		{size: 9000, mtu: 9000, cost: 1500},
		{size: 1492, mtu: 1492, cost: 1492},
		{size: 1420, mtu: 1500, want: 1420, cost: 50_000},
		{size: 1280, mtu: 1500, want: 1280, cost: 50_000},
		{size: 1203, mtu: 1500, want: 1200, cost: 60_000},
		{size: 1499, mtu: 1500, want: 1496, cost: 50_000},
		{size: 1400, mtu: 1492, want: 1400, cost: 50_000},
		{size: 500, mtu: 1500, want: 0, cost: 30_000}, // large echoes are not answered
	} {
		for _, loss := range []float64{0, 0.1} {
			t.Run(fmt.Sprintf("%d of %d, loss of %.1f", tt.size, tt.mtu, loss), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(uint64(tt.size), 0))
					lte := &line{size: steadySize(tt.size), rtt: func(time.Duration) time.Duration {
						if rnd.Float64() < loss {
							return -1
						}
						return 60 * ms
					}}
					targets := both()
					targets[1].MTU = tt.mtu
					s := run(t, map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": lte}, targets, func(*sim) { time.Sleep(time.Duration(6+300*loss) * time.Second) })
					got := s.m.Health()[lte4].MTU
					if loss > 0 && got < tt.want && got >= tt.want-2*coarse { // of what is lost a neighbour is found
						got = tt.want
					}
					if got != tt.want {
						t.Errorf("found %d, want %d", got, tt.want)
					}
					if int(lte.large.Load()) > tt.cost && loss == 0 {
						t.Errorf("it cost %d bytes", lte.large.Load())
					}
					s.lived(fibre4, lte4)
				})
			})
		}
	}
}

func steadySize(size int) func(time.Duration) int { return func(time.Duration) int { return size } }

// A line that becomes narrow in a download is found out, and one that is wide
// again; one that carries nothing is not asked again.
func TestSizeChanges(t *testing.T) {
	const narrow, wide = time.Minute, 20 * time.Minute
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lte := &line{rtt: steady(60 * ms), size: func(at time.Duration) int {
				if at >= narrow && at < wide {
					return 1420
				}
				return 1500
			}}
			if busy {
				lte.stream = flow(ms, [2]time.Duration{0, narrow}, [2]time.Duration{narrow + 5*time.Second, long})
			}
			targets := both()
			targets[1].MTU = 1500
			run(t, map[string]*line{"fibre": {rtt: steady(20 * ms)}, "lte": lte}, targets, func(s *sim) {
				time.Sleep(narrow + 5*time.Second)
				if got := s.m.Health()[lte4].MTU; busy != (got == 1420) {
					t.Errorf("busy %v: %d, 5 s after the line became narrow", busy, got)
				}
				time.Sleep(wide + sizeAgain + time.Minute - s.now())
				if got := s.m.Health()[lte4].MTU; got != 0 {
					t.Errorf("busy %v: %d, when it is wide again", busy, got)
				}
				time.Sleep(10 * time.Hour)
				if !busy && lte.large.Load() > 1500 {
					t.Errorf("an idle line has carried %d bytes", lte.large.Load())
				}
			})
		})
	}
}
