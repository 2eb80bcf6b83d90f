// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"braid/agent/daemon"
	"braid/agent/report"
	"braid/agent/ubus"
)

// fakeAgent answers like an agent with many connections and two WANs, one with
// the longest name there can be.
type fakeAgent struct {
	socket string
	object *ubus.Publication
	client *ubus.Client
}

func startBus(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "ubus.sock")
	ctx, cancel := context.WithCancel(context.Background())
	b := ubus.NewBroker(socket)
	doneC := make(chan error)
	go func() { doneC <- b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-doneC })
	<-b.Ready()
	return socket
}

func startAgent(t *testing.T, socket string) *fakeAgent {
	t.Helper()
	c, err := ubus.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	answers := func(v any) func(context.Context, *ubus.Request) (any, error) {
		return func(context.Context, *ubus.Request) (any, error) { return v, nil }
	}
	p, err := c.Publish(ubus.Object{Path: daemon.ObjectName, Methods: []ubus.Method{
		{Name: "status", Handle: answers(someStatus())},
		{Name: "wans", Handle: answers(report.WANs{WANs: someWANs()})},
		{Name: "connections", Handle: page},
		{Name: "explain", Handle: explain},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeAgent{socket, p, c}
}

const manyConnections = 1234

// page answers as the agent does, which gives 500 at most.
func page(_ context.Context, r *ubus.Request) (any, error) {
	var args struct {
		Limit  int `json:"limit"`
		Offset int `json:"offset"`
	}
	if err := r.Args(&args); err != nil || args.Limit < 1 || args.Limit > 500 {
		return nil, ubus.ErrInvalidArgument
	}
	out := report.Connections{Total: manyConnections, Connections: []report.Connection{}}
	for id := args.Offset; id < min(args.Offset+args.Limit, manyConnections); id++ {
		out.Connections = append(out.Connections, report.Connection{
			ID: uint64(id), Src: "[2001:db8:1:ffff:ffff:ffff:ffff:2020]:54321", Dst: "[2001:db8:80:ffff:ffff:ffff:ffff:8080]:443",
			Path: "convert", Converter: "mcp", Age: 100000, RX: 123456789, TX: 987654321, MPTCP: true,
			Subflows: []report.Subflow{{WAN: "fibre"}, {WAN: "a_wan_with_a_name_of_32_letters_"}},
		})
	}
	return out, nil
}

func explain(_ context.Context, r *ubus.Request) (any, error) {
	var args destination
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	known := true
	return report.Explanation{Path: "convert", Reason: fmt.Sprintf("asked about %v port %d", args.Addr, args.Port), Rule: "games",
		Subflows: []report.ExpectedSubflow{{WAN: "fibre", Family: "ipv4", Remote: "192.0.2.10:5124", Peer: "converter"}},
		Seen:     report.Seen{MPTCP: &known, Lends: &known}}, nil
}

func someWANs() []report.WAN {
	return []report.WAN{
		{Name: "fibre", Interface: "wan", Device: "eth1", Kind: "fixed", Role: "primary", EffectiveRole: "primary", State: "up", Since: 4711,
			Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, IPv4: "public", IPv6: true, RTT: 21.4, Jitter: 1.5,
			RXRate: 48_123_456, TXRate: 9_876, RXBytes: 1 << 40, TXBytes: 12345, Subflows: 2000},
		{Name: "a_wan_with_a_name_of_32_letters_", Interface: "wwan", Device: "wwan0", Kind: "cellular", Role: "overflow", EffectiveRole: "primary",
			State: "degraded", Reason: "ipv4: 12 % of the probes are lost, which is more than a line that works well would ever lose", Since: 90_000,
			Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.2")}, IPv4: "shared", RTT: 1234.5, Loss: 0.12,
			RXRate: 999_949_999, TXRate: 1_999_999_999, RXBytes: 123, TXBytes: 456,
			Quota:    report.Quota{Used: 12_300_000_000, Limit: 50_000_000_000},
			Cellular: report.Cellular{Operator: "Example Mobile", Technology: "lte", Signal: 57, Roaming: true}},
	}
}

func someStatus() report.Status {
	return report.Status{
		Version: "1.0", Uptime: 100, State: "degraded", Kernel: report.Kernel{Release: "6.12.1", MPTCP: true, TFO: true, TProxy: true, Congestion: "bbr"}, Firewall: "nftables",
		Problems: []report.Problem{{Section: "lte", Option: "interface", Message: "netifd has no interface wwan\nand this is a second line"}},
		Converters: []report.Converter{
			{Name: "mcp", Address: "2001:db8:10::10", Port: 5124, State: "up", RTT: 9.96, Since: 50, IPv4: new(bool)},
			{Name: "mcp", Address: "192.0.2.10", Port: 5124, State: "up", RTT: 9.96, Since: 50, IPv4: new(bool)},
		},
		WANs:        someWANs(),
		Connections: report.Totals{Open: 2000, Total: 123456789, Convert: 123456000, Direct: 700, TCPFallback: 89},
		Bytes:       report.Bytes{RX: 123456789012, TX: 1234567890},
	}
}
