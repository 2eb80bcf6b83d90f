// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/agent/health"
	"braid/agent/plan"
)

// Hosts and servers keep the WAN of what they have open as long as it works and
// there is another one; not those who have come in from outside.
func TestKept(t *testing.T) {
	const network = `
link lan0 bridge 192.168.1.1/24
link fibre device 198.51.100.2/24 via 198.51.100.1
link lte wwan 100.64.0.2/30 via 100.64.0.1
`
	const conf = "config globals 'globals'\n\tlist lan 'lan0'\nconfig wan 'fibre'\n\toption device 'fibre'\nconfig wan 'lte'\n\toption device 'lte'\n\toption role 'backup'\n"
	addr := netip.MustParseAddr
	kept := func(host, server string, wan uint32) plan.Kept {
		return plan.Kept{Host: addr(host), Server: addr(server), Mark: wan << 24}
	}
	outward := kept("192.168.1.20", "192.0.2.80", 2)
	served := kept("192.168.1.20", "192.0.2.81", 1)
	all := []plan.Kept{kept("192.0.2.66", "192.168.1.30", 1), outward, served, kept("2001:db8::20", "2001:db8:80::80", 2)}
	down := health.Health{Verdict: health.Down}
	for _, tt := range []struct {
		name string
		dead string
		kept []plan.Kept
		want []plan.Kept
	}{
		{"the fibre has all that is new", "", all, []plan.Kept{outward}},
		{"there is no other", "fibre", all, nil},
		{"it is dead", "lte", all, nil},
		{"nothing was open", "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := plan.Input{Config: parse(t, conf), Kept: tt.kept, Ports: plan.Ports{1, 2, 3}}
			if err := readNetwork(&in, network); err != nil {
				t.Fatal(err)
			}
			if tt.dead != "" {
				in.Health[health.Leg{WAN: tt.dead, Device: tt.dead}] = down
			}
			p, problems := plan.Make(in)
			if p.Firewall == nil {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(tt.want, p.Firewall.IPv4.Kept, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
	var many []plan.Kept
	for i := range 1000 {
		many = append(many, kept(fmt.Sprintf("192.168.1.%d", i/100), fmt.Sprintf("192.0.%d.%d", i/256, i%256), 2))
	}
	in := plan.Input{Config: parse(t, conf), Kept: many, Ports: plan.Ports{1, 2, 3}}
	if err := readNetwork(&in, network); err != nil {
		t.Fatal(err)
	}
	p, _ := plan.Make(in)
	of := make(map[netip.Addr]int)
	for _, k := range p.Firewall.IPv4.Kept {
		of[k.Host]++
	}
	if n := len(p.Firewall.IPv4.Kept); n != 512 || of[addr("192.168.1.0")] != 64 {
		t.Errorf("%d of %d are kept, %v", n, len(many), of)
	}
}
