// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"braid/agent/config"
	"braid/transport/journal"
)

// serveDNS starts a DNS server that has a host, mcp.isp.example, and records, and
// says how to ask it.
func serveDNS(t *testing.T, records ...string) *net.Resolver {
	t.Helper()
	dns := exec.Command("dnsmasq", append([]string{"--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--port=5353",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--host-record=mcp.isp.example,192.0.2.10"}, records...)...)
	if err := dns.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Process.Kill(); dns.Wait() })
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
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:5353")
	}}
}

// Of many homes as many have one of two converters first as its weight says; each
// keeps the order that it has drawn.
func TestServiceWeights(t *testing.T) {
	dns := serveDNS(t, "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5125,1,90", "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5124,1,10")
	const homes = 300
	heavy := 0
	for range homes {
		r := NewResolver(journal.New(io.Discard))
		r.dns = dns
		if err := r.lookupServices(t.Context(), "isp.example"); err != nil {
			t.Fatal(err)
		}
		first := r.Services()["isp.example"]
		if len(first) != 2 {
			t.Fatalf("found %v", first)
		}
		if first[0].Port == 5125 {
			heavy++
		}
		if err := r.lookupServices(t.Context(), "isp.example"); err != nil {
			t.Fatal(err)
		}
		if again := r.Services()["isp.example"]; !slices.Equal(first, again) {
			t.Errorf("the order changes from %v to %v", first, again)
		}
	}
	// 270 are expected, with a standard deviation of 5.
	if heavy < homes*8/10 || heavy == homes {
		t.Errorf("%d of %d homes have the heavier one first", heavy, homes)
	}
}

// A real DNS server says where a domain has converters, and where these are.
func TestServices(t *testing.T) {
	r := NewResolver(journal.New(t.Output()))
	r.dns = serveDNS(t, "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5125,1,10", "--srv-host=_convert._tcp.isp.example,mcp.isp.example,5124,2,10")
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
