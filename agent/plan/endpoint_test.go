// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"slices"
	"testing"

	"braid/agent/plan"
	"braid/transport/mptcp"
)

// The endpoint from which first subflows start stays as it is when the translator of its line comes:
// the kernel closes the subflows of one that changes.
func TestTranslatorComes(t *testing.T) {
	config := parse(t, `
config globals 'globals'
	list lan 'lan0'

config wan 'fibre'
	option device 'fibre'

config wan 'lte'
	option device 'wwan0'
	option role 'bond'

config converter 'mcp'
	list address '192.0.2.10'
	list address '2001:db8:10::10'
`)
	const network = `link lan0 bridge 192.168.1.1/24 2001:db8:1::1/64 fe80::1/64
link fibre device 2001:db8:f::2/64 via fe80::eeee metric 10
link wwan0 wwan 100.64.0.2/24 via 100.64.0.1 metric 20
`
	endpoints := func(network string) []mptcp.Endpoint {
		in := plan.Input{Ports: plan.Ports{5125, 5126, 5127}, Config: config}
		if err := readNetwork(&in, network); err != nil {
			t.Fatal(err)
		}
		p, _ := plan.Make(in)
		if !p.Network.StartsIPv6 {
			t.Fatal("first subflows do not start by IPv6")
		}
		return p.Endpoints
	}
	before := endpoints(network)
	after := endpoints(network + "link braid-clat1 tun 192.0.0.1/32\nclat fibre braid-clat1 192.0.0.1 64:ff9b::/96 fd62:7261:6964::c000:1\n")
	for _, e := range before {
		if !slices.Contains(after, e) {
			t.Errorf("%+v has changed: %+v", e, after)
		}
	}
	own := slices.IndexFunc(after, func(e mptcp.Endpoint) bool { return e.Addr == netip.MustParseAddr("192.0.0.1") })
	if own < 0 || after[own].Flags != mptcp.FlagSubflow {
		t.Errorf("of the translator: %+v", after)
	}
}
