// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// listed are the connections that are extended, as braid lists them.
func listed(t *testing.T, r *rig.Rig) (list []report.Connection) {
	t.Helper()
	out, err := r.Braid("connections", "-json", "-limit", "500")
	must(t, err)
	var cs report.Connections
	must(t, json.Unmarshal(out, &cs))
	for _, c := range cs.Connections {
		if c.Path == "extend" {
			list = append(list, c)
		}
	}
	return list
}

// A connection that is extended is listed, with what it carries over which WAN.
func TestExtendListed(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	fibre, lte := arrived(r, "fibre"), arrived(r, "lte")
	stop := extended(t, r, host)
	carried := background(t, r.FromHost(lab.Server4)) // one that ends at the gateway
	time.Sleep(2 * time.Second)
	list := listed(t, r)
	fibre, lte = arrived(r, "fibre")-fibre, arrived(r, "lte")-lte
	if len(list) != 1 {
		t.Fatalf("listed: %+v", list)
	}
	c := list[0]
	if !strings.HasPrefix(c.Src, "192.168.1.") || c.Dst != speaker4.String() || !c.MPTCP || c.Converter != "" || len(c.Subflows) != 2 {
		t.Fatalf("%+v", c)
	}
	var rx uint64
	for i, wan := range []string{"fibre", "lte"} {
		f := c.Subflows[i]
		all := map[string]uint64{"fibre": fibre, "lte": lte}[wan]
		if f.WAN != wan || f.Remote != speaker4.String() || !strings.HasPrefix(f.Local, r.WAN(wan).Gateway4.Addr().String()+":") ||
			f.RX < 1e5 || f.RX > all || f.TX == 0 || f.TX > f.RX {
			t.Errorf("%+v of %d bytes that have come over %s", f, all, wan)
		}
		rx += f.RX
	}
	if c.RX != rx {
		t.Errorf("%d bytes in all, and %d over the WANs", c.RX, rx)
	}
	if out, err := r.Braid("connections"); err != nil || !strings.Contains(string(out), "extend") || !strings.Contains(string(out), "fibre+lte") ||
		!strings.Contains(string(out), "convert") {
		t.Errorf("%v:\n%s", err, out)
	}
	if all := connections(t, r); len(all) != 2 || all[0].ID == all[1].ID || all[0].Path != "extend" {
		t.Errorf("listed: %+v", all)
	}
	stop()
	carried()
	// A host's kernel goes on for a while with what breaks off: with that one.
	before := len(listed(t, r))
	transfer(t, dial4(host, speaker4), traffic.Download, 8e6)
	eventually(t, 3*time.Second, func() error {
		if n := len(listed(t, r)); n > before {
			return fmt.Errorf("%d are listed", n)
		}
		return nil
	})
	if n := status(t, r).Connections.Extended; n != 2 {
		t.Errorf("%d were extended", n)
	}
}

// An agent that comes after one that was killed, or stopped, goes on with the
// connections that are open: those that have both lines keep them, and what they
// lack they are told of.
func TestExtendRestart(t *testing.T) {
	for how, end := range map[string]func(*testing.T, *rig.Rig){
		"killed":  func(_ *testing.T, r *rig.Rig) { r.Agent.Kill() },
		"stopped": func(t *testing.T, r *rig.Rig) { must(t, r.Agent.Stop()) },
	} {
		t.Run(how, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
			serveMPTCP(t, r)
			stop := extended(t, r, phone(t, r))
			time.Sleep(1500 * time.Millisecond) // it is written once a second
			joins := r.Server.MIB("MPTcpExtMPJoinAckRx")
			end(t, r)
			must(t, r.StartAgent())
			flows(t, r, "lte", true)
			flows(t, r, "fibre", true)
			eventually(t, 3*time.Second, func() error {
				if list := listed(t, r); len(list) != 1 || len(list[0].Subflows) != 2 {
					return fmt.Errorf("listed: %+v", list)
				}
				return nil
			})
			if n := r.Server.MIB("MPTcpExtMPJoinAckRx") - joins; how == "killed" && n != 0 {
				t.Errorf("%d joins: what was there was lost", n)
			}
			// The line dies and returns, of which only the new agent can tell.
			r.Link("lte").Blackhole(true)
			eventually(t, 5*time.Second, func() error {
				for _, w := range status(t, r).WANs {
					if w.Name == "lte" && w.State != "down" {
						return fmt.Errorf("lte is %s", w.State)
					}
				}
				return nil
			})
			joins = r.Server.MIB("MPTcpExtMPJoinAckRx")
			r.Link("lte").Blackhole(false)
			flows(t, r, "lte", true)
			if n := r.Server.MIB("MPTcpExtMPJoinAckRx") - joins; n < 1 {
				t.Errorf("%d joins", n)
			}
			noSockets(t, r)
			rep := stop()
			t.Log(rep)
			if rep.Stall > 3*time.Second {
				t.Errorf("%v", rep)
			}
		})
	}
}
