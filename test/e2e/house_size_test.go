// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// narrow has a line drop what is larger than a size, and say nothing.
func narrow(t *testing.T, r *rig.Rig, wan string, size int) {
	t.Helper()
	for _, d := range []*link.Direction{r.Link(wan).AB(), r.Link(wan).BA()} {
		must(t, d.Change(func(s *link.Spec) { s.Largest = size }))
	}
}

// mtu is what the agent says that a WAN's IPv4 carries.
func mtu(t *testing.T, r *rig.Rig, wan string) int {
	t.Helper()
	for _, l := range wanOf(t, bus(t, r), wan).Legs {
		if l.Family == "ipv4" {
			return l.MTU
		}
	}
	return 0
}

// An LTE passes 1,420 bytes and drops the ICMP that would tell of it: without braid
// nothing large arrives. Alone it carries at least half its rate, in both
// directions, within 5 s; in the bond it has its share.
func TestHouseNarrow(t *testing.T) {
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	alone := lab.Options{Accesses: []lab.Access{lab.LTE(slow, slow)}}
	for name, o := range map[string]rig.Options{
		"alone":   {Lab: alone, UCI: homeUCI("lte; device lte; kind cellular"), Idle: true},
		"in bond": {Lab: lines(), Idle: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, o)
			narrow(t, r, "lte", 1420)
			must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
			must(t, r.StartAgent())
			began := time.Now()
			eventually(t, 5*time.Second, func() error {
				if n := mtu(t, r, "lte"); n != 1420 {
					return fmt.Errorf("it is said to carry %d", n)
				}
				return nil
			})
			t.Logf("found %v after the start", time.Since(began))
			for op, count := range map[traffic.Op]func() uint64{
				traffic.Download: func() uint64 { return r.Link("lte").BA().Counters().Bytes },
				traffic.Upload:   func() uint64 { return r.Link("lte").AB().Counters().Bytes },
			} {
				stop := endless(t, r.FromHost(lab.Server4), op)
				began := time.Now()
				eventually(t, 5*time.Second, func() error {
					before := count()
					time.Sleep(time.Second)
					if rate := float64(count()-before) * 8; rate < float64(slow.Rate)/2 {
						return fmt.Errorf("%v: %.1f Mbit/s over the LTE", op, rate/1e6)
					}
					return nil
				})
				t.Logf("%v: half the rate after %v", op, time.Since(began))
				stop()
			}
		})
	}
}

// The same begins while a download is under way: it goes on.
func TestHouseBecomesNarrow(t *testing.T) {
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	r := start(t, rig.Options{Lab: lab.Options{Accesses: []lab.Access{lab.LTE(slow, slow)}}, UCI: homeUCI("lte; device lte; kind cellular")})
	stop := background(t, r.FromHost(lab.Server4))
	time.Sleep(3 * time.Second)
	narrow(t, r, "lte", 1420)
	began := time.Now()
	eventually(t, 10*time.Second, func() error {
		before := r.Link("lte").BA().Counters().Bytes
		time.Sleep(time.Second)
		if rate := float64(r.Link("lte").BA().Counters().Bytes-before) * 8; mtu(t, r, "lte") != 1420 || rate < float64(slow.Rate)/2 {
			return errors.New("it stands still")
		}
		return nil
	})
	t.Logf("it goes on %v later", time.Since(began))
	stop()
}
