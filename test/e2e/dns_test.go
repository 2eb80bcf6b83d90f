// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"braid/agent/ubus"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// netifdUCI describes the default lab's WANs by netifd's interfaces.
var netifdUCI = strings.NewReplacer("option device 'fibre'", "list interface 'wan'", "option device 'lte'", "list interface 'wwan'").Replace(rig.DefaultUCI)

// netifd plays netifd: it tells of two interfaces and their DNS servers, and of
// more if there are any.
func netifd(ctx context.Context, r *rig.Rig, dns map[string]netip.Addr, more ...map[string]any) error {
	var c *ubus.Client
	for { // the agent brings the bus
		var err error
		if c, err = ubus.Dial(ctx, r.Socket()); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
	context.AfterFunc(ctx, func() { c.Close() })
	type table = map[string]any
	interfaces := slices.Clone(more)
	for name, device := range map[string]string{"wan": "fibre", "wwan": "lte", "lan": "lan0"} {
		in := table{"interface": name, "up": true, "proto": "static", "l3_device": device, "device": device}
		if server, ok := dns[device]; ok {
			in["dns-server"] = []string{server.String()}
		}
		interfaces = append(interfaces, in)
	}
	_, err := c.Publish(ubus.Object{Path: "network.interface", Methods: []ubus.Method{{
		Name:   "dump",
		Handle: func(context.Context, *ubus.Request) (any, error) { return table{"interface": interfaces}, nil },
	}}})
	return err
}

// Each WAN has a DNS server that answers over that WAN alone, as ISPs' do.
// Behind dnsmasq on the gateway the LAN has an answer within a second, whether
// the agent knows already that the primary has become a black hole or not; in
// the second case dnsmasq has to ask all servers at once.
func TestDNS(t *testing.T) {
	const ask = "ip route get ipproto udp dport 53 "
	for _, tt := range []struct {
		name, option string
		known        bool
	}{
		{"all servers, at once", "--all-servers", false},
		{"one server after the other", "--no-negcache", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, rig.Options{Idle: true, UCI: netifdUCI})
			dns := map[string]netip.Addr{"fibre": netip.MustParseAddr("192.0.2.81"), "lte": netip.MustParseAddr("192.0.2.82")}
			sh(t, r.Server, "ip addr add 192.0.2.81/32 dev eth0; ip addr add 192.0.2.82/32 dev eth0")
			nft(t, r.Server, fmt.Sprintf(`table ip isp {
				chain input {
					type filter hook input priority filter
					ip daddr 192.0.2.81 ip saddr != %v drop
					ip daddr 192.0.2.82 ip saddr != %v drop
				}
			}`, r.WAN("fibre").Public4, r.WAN("lte").Public4))
			dnsmasq(t, r.Server, "--address=/example/192.0.2.1")
			dnsmasq(t, r.Gateway, "--cache-size=0 --strict-order --server=192.0.2.81 --server=192.0.2.82 "+tt.option)
			must(t, r.StartMCP("-client", "0.0.0.0/0"))
			go func() {
				if err := netifd(t.Context(), r, dns); err != nil {
					t.Error(err)
				}
			}()
			must(t, r.StartAgent())
			for wan, server := range dns {
				if way := sh(t, r.Gateway, ask+server.String()); !strings.Contains(way, "dev "+wan) {
					t.Errorf("the server of %s is reached by %s", wan, way)
				}
				if way := sh(t, r.Gateway, strings.Replace(ask, "53", "443", 1)+server.String()); !strings.Contains(way, "dev fibre") {
					t.Errorf("what is no DNS is led to the server of %s by %s", wan, way)
				}
			}
			eventually(t, 5*time.Second, func() error {
				_, err := lookup(t, r, "start")
				return err
			})
			r.Link("fibre").Blackhole(true)
			if tt.known {
				working(t, r, "fibre", false)
				// It has been asked over the other WAN, and is silent.
				eventually(t, 5*time.Second, func() error {
					if out, err := r.Gateway.Run(ask + "192.0.2.81"); err == nil {
						return fmt.Errorf("the dead WAN's server is reached by %s", out)
					}
					return nil
				})
			}
			for i := range 3 {
				if took, err := lookup(t, r, fmt.Sprintf("n%d", i)); err != nil || took > time.Second {
					t.Errorf("answer after %v, %v", took, err)
				}
			}
		})
	}
}

func dnsmasq(t *testing.T, n *lab.Node, args string) {
	t.Helper()
	c := n.Command(t.Context(), "dnsmasq", append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
		"--user=root", "--pid-file=", "--bind-dynamic"}, strings.Fields(args)...)...)
	must(t, c.Start())
	t.Cleanup(func() {
		c.Cancel()
		c.Wait()
	})
}

// lookup asks the gateway's dnsmasq from the host, as patiently as resolvers
// are.
func lookup(t *testing.T, r *rig.Rig, name string) (time.Duration, error) {
	t.Helper()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return r.Host().Dial(ctx, net.Dialer{}, network, netip.AddrPortFrom(lab.Gateway4, 53).String())
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	addrs, err := resolver.LookupNetIP(ctx, "ip4", name+".example.")
	if err == nil && len(addrs) != 1 {
		err = fmt.Errorf("addresses %v", addrs)
	}
	return time.Since(began), err
}

// A rule for a domain holds once a LAN host has looked one of its names up.
func TestDomainRule(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			r := start(t, rig.Options{UCI: backend(t, b, rig.DefaultUCI) +
				"\nconfig rule 'bank'\n\tlist domain 'bank.example'\n\toption path 'pass'\n\toption wan 'lte'\n"})
			servers(t, r, 12)
			bank := netip.MustParseAddr("192.0.2.92")
			sets := "--nftset=/bank.example/4#inet#braid#rule_bank_4,6#inet#braid#rule_bank_6"
			if b != "nftables" {
				sets = "--ipset=/bank.example/braid_bank_4,braid_bank_6"
			}
			dnsmasq(t, r.Server, "--address=/example/192.0.2.91 --address=/bank.example/192.0.2.92")
			dnsmasq(t, r.Gateway, "--server=192.0.2.80 "+sets)
			eventually(t, 5*time.Second, func() error {
				_, err := lookup(t, r, "other")
				return err
			})
			if c := counted(t, r, func() { transfer(t, fromNode(r, r.Host(), bank, rig.Port), traffic.Echo, 1e4) }); c.Total != 1 {
				t.Errorf("before the lookup the agent counted %+v", c)
			}
			_, err := lookup(t, r, "www.bank")
			must(t, err)
			notTaken(t, r, func() {
				p, err := fromNode(r, r.Host(), bank, rig.Port).Identify(t.Context())
				if err != nil || over(r, p.Remote.Addr()) != "lte" {
					t.Errorf("seen from %v, %v", p.Remote, err)
				}
			})
			if c := counted(t, r, func() {
				transfer(t, fromNode(r, r.Host(), netip.MustParseAddr("192.0.2.91"), rig.Port), traffic.Echo, 1e4)
			}); c.Total != 1 {
				t.Errorf("another domain: the agent counted %+v", c)
			}
		})
	}
}
