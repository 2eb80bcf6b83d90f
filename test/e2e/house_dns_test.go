// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/traffic"
)

// A public resolver is entered on one WAN, whose line dies. It answers over the others too, in DNS and
// whatever else is spoken to it.
func TestHouseWithPublicResolver(t *testing.T) {
	resolver := netip.MustParseAddr("1.1.1.1")
	const doh = 443
	h := newHouse(t, lab.Options{}, netifdUCI)
	sh(t, h.Server, "ip addr add 1.1.1.1/32 dev eth0; ip addr add 192.0.2.95/32 dev eth0")
	sh(t, h.Core, "ip route add 1.1.1.1 via "+lab.Server4.String())
	// The carrier's resolver is not what the router's own asks.
	nft(t, h.Server, "table ip isp {\n chain input {\n type filter hook input priority filter\n ip daddr 192.0.2.95 udp dport 53 drop\n }\n}")
	dnsmasq(t, h.Server, "--address=/example/192.0.2.1")
	if _, err := h.Serve(h.Server, false, doh); err != nil {
		t.Fatal(err)
	}
	dnsmasq(t, h.Gateway, "--cache-size=0 --server=1.1.1.1")
	asked := func() {
		t.Helper()
		for _, name := range []string{"one", "two", "three"} {
			if took, err := lookup(t, h.Rig, name); err != nil || took > time.Second {
				t.Errorf("answer after %v, %v", took, err)
			}
		}
	}
	eventually(t, 5*time.Second, func() error {
		_, err := lookup(t, h.Rig, "start")
		return err
	})
	wan, wwan := netifdOf(h.WAN("fibre"), "wan", "dhcp"), netifdOf(h.WAN("lte"), "wwan", "qmi")
	wan.DNS, wwan.DNS = []string{"1.1.1.1"}, []string{"192.0.2.95"}
	h.netifd(t, wan, wwan)
	h.moveIn(t, "fibre", "lte")
	asked()
	h.Link("fibre").Blackhole(true)
	working(t, h.Rig, "fibre", false)
	asked()
	for _, from := range []*lab.Node{h.Host(), h.Gateway} {
		transfer(t, fromNode(h.Rig, from, resolver, doh), traffic.Echo, 1e4)
	}
	p, err := fromNode(h.Rig, h.Gateway, resolver, doh).Identify(t.Context())
	if err != nil || h.by(p.Remote.Addr()) != "lte" {
		t.Errorf("DoH is seen from %v, %v", p.Remote, err)
	}
	h.Link("fibre").Blackhole(false)
	working(t, h.Rig, "fibre", true)
	asked()
}
