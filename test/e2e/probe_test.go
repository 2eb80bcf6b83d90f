// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// waitUp waits until all WANs are up and their round trips are known.
func waitUp(t *testing.T, r *rig.Rig) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		for _, w := range status(t, r).WANs {
			if w.State != "up" || w.RTT == 0 {
				return fmt.Errorf("%s is %s, rtt %v ms, %s", w.Name, w.State, w.RTT, w.Reason)
			}
		}
		return nil
	})
}

// A converter's host whose firewall drops pings is asked by TCP, in either
// family: the WANs are up, a black hole is found by the silence, and the
// converter's program is not bothered.
func TestProbeByTCP(t *testing.T) {
	r := start(t, rig.Options{Idle: true, Lab: lines(),
		UCI: strings.Replace(rig.DefaultUCI, "\toption port", "\tlist address '2001:db8:10::10'\n\toption port", 1)})
	nft(t, r.Converter, `table inet filtered {
		chain input {
			type filter hook input priority 0;
			icmp type echo-request drop
			icmpv6 type echo-request drop
		}
	}`)
	must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
	before := metric(t, r, "braid_mcp_accepted_tcp_total")
	must(t, r.StartAgent())
	waitUp(t, r)
	for i, rtt := range []float64{20, 60} {
		if w := status(t, r).WANs[i]; w.RTT < rtt || w.RTT > rtt*3/2 {
			t.Errorf("%s: rtt %v ms, want %v", w.Name, w.RTT, rtt)
		}
	}
	rep := during(t, r, traffic.Download, 30e6, func() { r.Link("fibre").Blackhole(true) })
	if rep.Stall > time.Second {
		t.Errorf("stalled for %v", rep.Stall)
	}
	w := status(t, r).WANs[0]
	var silence int
	if _, err := fmt.Sscanf(w.Reason, "received nothing for %d ms", &silence); err != nil || w.State != "down" || silence > 500 {
		t.Errorf("%s is %s: %s", w.Name, w.State, w.Reason)
	}
	r.Link("fibre").Blackhole(false)
	waitUp(t, r)
	// One may be no probe: a question to the converter whose SYN the line has
	// swallowed is sent again without its data when the line is back, and by plain TCP
	// then, before it is put once more (TestSYNLost in transport/mptcp).
	if after := metric(t, r, "braid_mcp_accepted_tcp_total"); after > before+1 {
		t.Errorf("the converter has accepted %v connections of plain TCP", after-before)
	}
}

// An address to probe that never answers is one of several.
func TestFirstProbeIsDead(t *testing.T) {
	dead := "\tlist probe '192.0.2.99'\n\tlist probe '" + lab.Server4.String() + "'\n"
	uci := rig.DefaultUCI
	for _, wan := range []string{"fibre", "lte"} {
		device := "\toption device '" + wan + "'\n"
		uci = strings.Replace(uci, device, device+dead, 1)
	}
	r := start(t, rig.Options{Lab: lines(), UCI: uci})
	waitUp(t, r)
	rep := during(t, r, traffic.Download, 30e6, func() { r.Link("fibre").Blackhole(true) })
	if rep.Stall > time.Second {
		t.Errorf("stalled for %v", rep.Stall)
	}
	if w := status(t, r).WANs[0]; w.State != "down" || !strings.HasPrefix(w.Reason, "received nothing for ") {
		t.Errorf("%s is %s: %s", w.Name, w.State, w.Reason)
	}
}
