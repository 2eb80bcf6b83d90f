// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// What happens to a line for less than a second costs no open connection its
// share of it: a download has both lines again 5 s later.
func TestHouseSubflowReturns(t *testing.T) {
	fade := func(d time.Duration) func(*testing.T, *rig.Rig) {
		return func(t *testing.T, r *rig.Rig) {
			r.Link("lte").Blackhole(true)
			time.Sleep(d)
			r.Link("lte").Blackhole(false)
		}
	}
	resets := func(away time.Duration) func(*testing.T, *rig.Rig) {
		return func(t *testing.T, r *rig.Rig) {
			nft(t, r.WAN("lte").Router, `table inet carrier {
				chain forward {
					type filter hook forward priority 0
					meta l4proto tcp reject with tcp reset
				}
			}`)
			time.Sleep(away)
			nft(t, r.WAN("lte").Router, "delete table inet carrier")
		}
	}
	address := func(wan string, away time.Duration) func(*testing.T, *rig.Rig) {
		return func(t *testing.T, r *rig.Rig) {
			w := r.WAN(wan)
			sh(t, r.Gateway, fmt.Sprintf("ip -4 addr flush dev %[1]s; sleep %[2]f; ip addr add %[3]v dev %[1]s; ip route add default via %[4]v dev %[1]s metric %[5]d",
				wan, away.Seconds(), w.Gateway4, w.Router4, map[string]int{"fibre": 10, "lte": 20}[wan]))
		}
	}
	for name, happen := range map[string]func(*testing.T, *rig.Rig){
		"LTE fades for 300 ms":                      fade(300 * time.Millisecond),
		"LTE fades for 400 ms":                      fade(400 * time.Millisecond),
		"LTE fades for 500 ms":                      fade(500 * time.Millisecond),
		"LTE fades for 700 ms":                      fade(700 * time.Millisecond),
		"the carrier resets TCP for 500 ms":         resets(500 * time.Millisecond),
		"LTE's address is away for 160 ms":          address("lte", 160*time.Millisecond),
		"the fibre's address is away for 160 ms":    address("fibre", 160*time.Millisecond),
		"the fibre's address is away for 5 ms":      address("fibre", 5*time.Millisecond),
		"netifd is killed, and started 1.5 s later": address("fibre", 1500*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lines()})
			stop := background(t, r.FromHost(lab.Server4))
			both := func() error {
				down, downLTE := r.Link("fibre").BA(), r.Link("lte").BA()
				fibre, lte := down.Counters().Bytes, downLTE.Counters().Bytes
				time.Sleep(time.Second)
				fibre, lte = down.Counters().Bytes-fibre, downLTE.Counters().Bytes-lte
				if fibre < 2e6 || lte < 5e5 {
					return fmt.Errorf("the fibre carries %d bytes a second, LTE %d\n%s", fibre, lte, sh(t, r.Converter, "ss -tnie sport = 5124"))
				}
				return nil
			}
			eventually(t, 5*time.Second, both)
			happen(t, r)
			began := time.Now()
			time.Sleep(2 * time.Second) // whatever is destroyed has been by then
			eventually(t, 5*time.Second, both)
			t.Logf("both lines carry %v later", time.Since(began)-time.Second) // in which it was looked
			t.Logf("longest stall %v", stop().Stall)
		})
	}
}

// A connection whose last subflow is gone, and for which no line brings another
// one, ends for the LAN too: here the way to the converter lets no join through.
func TestHouseNoLineCarriesOn(t *testing.T) {
	r := start(t, rig.Options{})
	host, _ := idlers(t, r, 1)
	nft(t, r.Converter, `table inet joinless {
		chain input {
			type filter hook input priority 0
			tcp dport 5124 tcp flags syn tcp option mptcp subtype 1 reject with tcp reset
		}
	}`)
	sh(t, r.Converter, "ss -K state established sport = 5124 >/dev/null")
	host[0].SetReadDeadline(time.Now().Add(30 * time.Second * patience))
	began := time.Now()
	if _, err := host[0].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the host sees %v", err)
	}
	t.Logf("reset after %v", time.Since(began))
	sh(t, r.Converter, "nft delete table inet joinless")
	transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5)
}
