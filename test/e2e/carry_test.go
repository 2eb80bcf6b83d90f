// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// payload is the share of data in a full packet of MPTCP over IPv4: timestamps
// and a DSS option with a 64-bit number.
const payload = 1420.0 / 1500

// metric adds up a counter of the converter's over all its labels.
func metric(t *testing.T, r *rig.Rig, name string) (sum float64) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return r.Converter.Dial(ctx, net.Dialer{}, network, addr)
		},
	}}
	resp, err := client.Get("http://127.0.0.1:9124/metrics")
	must(t, err)
	defer resp.Body.Close()
	found := false
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		key, value, _ := strings.Cut(in.Text(), " ")
		if key == name || strings.HasPrefix(key, name+"{") {
			v, err := strconv.ParseFloat(value, 64)
			must(t, err)
			sum, found = sum+v, true
		}
	}
	if !found {
		t.Fatalf("the converter has no metric %s", name)
	}
	return sum
}

// linkBytes is what the links have carried so far, in the direction of op.
func linkBytes(r *rig.Rig, op traffic.Op) (sum [2]uint64) {
	for i, w := range r.WANs {
		d := r.Link(w.Name).BA()
		if op == traffic.Upload {
			d = r.Link(w.Name).AB()
		}
		sum[i] = d.Counters().Bytes
	}
	return sum
}

// A transfer runs over both lines at once, and everybody who counts agrees.
func TestBothLines(t *testing.T) {
	const size = 25_000_000
	names := map[traffic.Op]string{traffic.Download: "from", traffic.Upload: "to"}
	r := start(t, rig.Options{Lab: lines()})
	for _, op := range []traffic.Op{traffic.Download, traffic.Upload} {
		for _, server := range []netip.Addr{lab.Server4, lab.Server6} {
			t.Run(fmt.Sprintf("%s %v", names[op], server), func(t *testing.T) {
				joins, links := r.Gateway.MIB("MPTcpExtMPJoinSynAckRx"), linkBytes(r, op)
				relayed, carried := metric(t, r, "braid_mcp_relayed_total"), metric(t, r, "braid_mcp_bytes_total")
				var rep traffic.Report
				c := counted(t, r, func() { rep = transfer(t, r.FromHost(server), op, size) })
				if c.Total != 1 || c.Convert != 1 || c.TCPFallback != 0 {
					t.Errorf("the agent counted %+v", c)
				}
				if n := r.Gateway.MIB("MPTcpExtMPJoinSynAckRx") - joins; n != 1 {
					t.Errorf("%d joins, want 1", n)
				}
				for i, before := range links {
					if share := float64(linkBytes(r, op)[i]-before) / size; share < 0.15 {
						t.Errorf("%s carried %.2f of the data", r.WANs[i].Name, share)
					}
				}
				// What a sender puts beyond the window costs a timeout of MPTCP's.
				for _, n := range []*lab.Node{r.Gateway, r.Converter} {
					if beyond := n.MIB("MPTcpExtNoDSSInWindow"); beyond != 0 {
						t.Errorf("%s dropped %d segments beyond the window", n.Name, beyond)
					}
				}
				if rate := rep.Rate() / (70e6 * payload); rate < 0.80 {
					t.Errorf("%.2f of the capacity: %v", rate, rep)
				} else {
					t.Logf("%.3f of the capacity: %v", rate, rep)
				}
				if n := metric(t, r, "braid_mcp_relayed_total") - relayed; n != 1 {
					t.Errorf("the converter relayed %v connections", n)
				}
				// Beside the data: the request, the answer, or an upload's report.
				eventually(t, 5*time.Second, func() error {
					if n := metric(t, r, "braid_mcp_bytes_total") - carried; n < size || n > size+1000 {
						return fmt.Errorf("the converter carried %v bytes", n)
					}
					return nil
				})
			})
		}
	}
}

// The LTE access has IPv6 alone, the converter is configured by its IPv4
// address alone: it announces the other one.
func TestTwoFamilies(t *testing.T) {
	o := lines()
	o.Accesses[0].V6, o.Accesses[1].V4 = false, lab.None
	r := start(t, rig.Options{Lab: o})
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 10*time.Second, func() error {
		cs := connections(t, r)
		if len(cs) != 1 || len(cs[0].Subflows) != 2 {
			return fmt.Errorf("connections %+v", cs)
		}
		remotes := map[string]string{}
		for _, f := range cs[0].Subflows {
			remotes[f.WAN] = f.Remote
		}
		if remotes["fibre"] != "192.0.2.10:5124" || remotes["lte"] != "[2001:db8:10::10]:5124" {
			return fmt.Errorf("subflows %+v", remotes)
		}
		return nil
	})
	links := linkBytes(r, traffic.Download)
	eventually(t, 10*time.Second, func() error {
		now := linkBytes(r, traffic.Download)
		if now[0]-links[0] < 1e6 || now[1]-links[1] < 1e6 {
			return fmt.Errorf("links carried %v, then %v", links, now)
		}
		return nil
	})
	stop()
}

// A single line is no reason not to convert.
func TestOneLineAlone(t *testing.T) {
	r := start(t, rig.Options{Lab: lab.Options{Accesses: []lab.Access{lab.LTE(link.Spec{}, link.Spec{})}}})
	if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e6) }); c.Convert != 1 || c.TCPFallback != 0 {
		t.Errorf("the agent counted %+v", c)
	}
	if s := status(t, r); s.State != report.StateDegraded {
		t.Errorf("state %s, want degraded", s.State)
	}
}
