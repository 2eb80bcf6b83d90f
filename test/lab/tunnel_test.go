// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/traffic"
)

// What a tunnel carries travels over the access networks, and is seen from the provider's address.
func TestTunnel(t *testing.T) {
	for _, tt := range []struct {
		over   string
		inside []string
		to     netip.Addr
	}{
		{"udp4", []string{"10.9.0.2/24"}, lab.Server4},
		{"udp6", []string{"10.9.0.2/24"}, lab.Server4},
		{"ip6:4", []string{"192.0.0.2/29"}, lab.Server4},
		{"ip4:41", []string{"fd09::2/64"}, lab.Server6},
	} {
		t.Run(tt.over, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			serve(t, w.Server, false)
			tunnel := lab.Tunnel{Name: "tunnel", Over: tt.over}
			for _, p := range tt.inside {
				tunnel.Inside = append(tunnel.Inside, netip.MustParsePrefix(p))
			}
			p, err := w.AddTunnel(tunnel)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Gateway.Run(`ip link set tunnel mtu 1400
				ip route add ` + tt.to.String() + ` dev tunnel`); err != nil {
				t.Fatal(err)
			}
			peer, err := dial(w.Gateway, tt.to, false).Identify(t.Context())
			if got := peer.Remote.Addr(); err != nil || got != p.Public4 && got != p.Public6 {
				t.Errorf("seen from %v, %v; the provider has %v and %v", got, err, p.Public4, p.Public6)
			}
			before := w.Link("fibre").BA().Counters().Bytes
			rep, err := dial(w.Gateway, tt.to, false).Do(t.Context(), traffic.Download, traffic.Request{Bytes: 1e6})
			if err != nil {
				t.Fatalf("%v: %v", rep, err)
			}
			if got := w.Link("fibre").BA().Counters().Bytes - before; got < 1e6 {
				t.Errorf("fibre has carried %d bytes of 1 MB", got)
			}
		})
	}
}

// Devices at one switch see each other's broadcasts, and so does a modem.
func TestSwitch(t *testing.T) {
	fibre, lte := lab.Fibre(link.Spec{}, link.Spec{}), lab.LTE(link.Spec{}, link.Spec{})
	lte.Inside4 = netip.MustParsePrefix("192.168.8.100/24")
	fibre.Switch, lte.Switch = "switch", "switch"
	w := newWorld(t, lab.Options{Accesses: []lab.Access{fibre, lte}})
	serve(t, w.Server, false)
	for _, want := range []netip.Addr{w.WAN("fibre").Public4, w.WAN("lte").Public4} {
		p, err := dial(w.Host(), lab.Server4, false).Identify(t.Context())
		if err != nil || p.Remote.Addr() != want {
			t.Errorf("seen from %v, %v, want %v", p.Remote, err, want)
		}
		w.WAN("fibre").SetDown()
	}
	// The kernel answers for all addresses that it has.
	carrier := w.WAN("lte").Router
	if _, err := carrier.Run("ip addr add 198.51.100.9/24 dev gw"); err != nil {
		t.Error(err)
	}
	_, err := carrier.Dial(t.Context(), net.Dialer{Timeout: 2 * time.Second}, "tcp", "198.51.100.2:9")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the gateway's other device answered: %v", err)
	}
}
