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

// stall runs a transfer and breaks the fibre in the middle of it.
func stall(t *testing.T, r *rig.Rig, op traffic.Op, breakIt func()) traffic.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	timer := time.AfterFunc(3*time.Second, breakIt)
	defer timer.Stop()
	rep, err := r.FromHost(lab.Server4).Do(ctx, op, traffic.Request{Bytes: 40e6, Interval: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rep)
	return rep
}

func TestStall(t *testing.T) {
	for _, how := range []string{"down", "hole"} {
		for _, op := range []traffic.Op{traffic.Download, traffic.Upload} {
			t.Run(how, func(t *testing.T) {
				r := start(t, rig.Options{Lab: bonded()})
				rep := stall(t, r, op, func() {
					if how == "down" {
						r.WAN("fibre").SetDown()
					} else {
						r.Link("fibre").Blackhole(true)
					}
				})
				for _, i := range rep.Intervals {
					t.Logf("%v %.1f", i.To.Round(time.Millisecond), i.Rate()/1e6)
				}
				t.Log(r.Agent.Log())
				t.Log(r.MCP.Log())
			})
		}
	}
}

func bonded() lab.Options {
	fast := link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond}
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	return lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(slow, slow)}}
}
