// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
)

// deaths lists the WANs that were taken for dead, as the events have it.
func deaths(t *testing.T, r *rig.Rig) (all []report.Event) {
	t.Helper()
	var got report.Events
	must(t, bus(t, r).Call(t.Context(), "braid", "events", table{}, &got))
	for _, e := range got.Events {
		if e.Type == "wan" && e.To == "down" {
			all = append(all, e)
		}
	}
	return all
}

// The converter's network goes away abruptly in a download, and comes back:
// that is no fault of the lines. None is down, and no flow of the LAN moves.
func TestHouseConverterGoneInDownload(t *testing.T) {
	const away = 9 * time.Second
	for _, pause := range []time.Duration{30 * time.Millisecond, 400 * time.Millisecond, 1500 * time.Millisecond} {
		t.Run(fmt.Sprintf("%v between packets", pause), func(t *testing.T) {
			r := start(t, rig.Options{Lab: lines()})
			all, _ := servers(t, r, houseFlows)
			flows, lines := make(map[net.Conn]string), make(map[string]int)
			for _, s := range all {
				c := udp(t, r.Host(), s)
				wan, err := ask(r, c)
				must(t, err)
				flows[c] = wan
				lines[wan]++
			}
			if lines["fibre"] == 0 {
				t.Fatalf("no flow is on the fibre: %v", lines)
			}
			stop := background(t, r.FromHost(lab.Server4))
			time.Sleep(3 * time.Second)
			look := func(long time.Duration) {
				for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(pause) {
					for c, wan := range flows {
						if lines["lte"] > 0 && wan == "lte" {
							continue // nor is anything heard on the LTE
						}
						if now, err := ask(r, c); err != nil || now != wan {
							t.Fatalf("a flow of %s is on %q: %v; %+v", wan, now, err, deaths(t, r))
						}
					}
				}
			}
			nft(t, r.Converter, `table netdev away {
				chain in { type filter hook ingress device "eth0" priority 0; policy drop; }
				chain out { type filter hook egress device "eth0" priority 0; policy drop; }
			}`)
			look(away)
			nft(t, r.Converter, "delete table netdev away")
			look(3 * time.Second)
			if d := deaths(t, r); len(d) > 0 {
				t.Errorf("taken for dead: %+v", d)
			}
			stop()
		})
	}
}
