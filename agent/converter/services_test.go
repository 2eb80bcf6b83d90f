// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"braid/agent/config"
	"braid/transport/journal"
)

// A real DNS server says where a domain has converters, and where these are.
func TestServices(t *testing.T) {
	dns := exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--port=5353",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--host-record=mcp.isp.example,192.0.2.10",
		"--srv-host=_convert._tcp.isp.example,mcp.isp.example,5125,1,10", "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5124,2,10")
	if err := dns.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { dns.Process.Kill(); dns.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:5353")
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	r := NewResolver(journal.New(t.Output()))
	r.dns = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:5353")
	}}
	r.Set([]string{"mcp.isp.example"}, nil, []string{"isp.example"})
	ctx, cancel := context.WithCancel(t.Context())
	endedC := make(chan struct{})
	go func() { r.Run(ctx); close(endedC) }()
	defer func() { cancel(); <-endedC }()
	want := []config.Service{{Host: "mcp.isp.example", Port: 5125, Priority: 1}, {Host: "mcp.isp.example", Port: 5124, Priority: 2}}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if slices.Equal(r.Services()["isp.example"], want) && slices.Equal(r.Resolved()["mcp.isp.example"], addrs) {
			return
		}
		select {
		case <-r.Changed():
		case <-time.After(time.Until(deadline)):
			t.Fatalf("found %v and %v", r.Services(), r.Resolved())
		}
	}
}
