// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// lateUCI is the default configuration with handshakes held.
var lateUCI = strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption accept 'late'", 1)

// With late accept a LAN host sees how a server answers, as if braid were not
// there: refusals and unreachability soon, silence as silence.
func TestLateAccept(t *testing.T) {
	o := lines()
	o.ServerDelay = time.Millisecond // ICMP that comes back within the system call that sent the SYN is not believed
	r := start(t, rig.Options{Lab: o, UCI: lateUCI})
	serveMPTCP(t, r)
	sh(t, r.Core, fmt.Sprintf("ip route add 203.0.113.99 via %v; ip -6 route add 2001:db8:99::1 via %v", lab.Server4, lab.Server6))
	sh(t, r.Server, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0; "+
		"ip route add unreachable 203.0.113.99; ip -6 route add unreachable 2001:db8:99::1")
	nft(t, r.Server, "table inet t {\n chain c {\n type filter hook input priority 0\n tcp dport 9 drop\n }\n}")
	for _, tt := range []struct {
		name string
		to   string
		want error // nil: times out
	}{
		{"refused", "192.0.2.80:1", syscall.ECONNREFUSED},
		{"refused, IPv6", "[2001:db8:80::80]:1", syscall.ECONNREFUSED},
		{"unreachable", "203.0.113.99:80", syscall.EHOSTUNREACH},
		{"unreachable, IPv6", "[2001:db8:99::1]:80", syscall.EHOSTUNREACH},
		{"silent", "192.0.2.80:9", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var d net.Dialer
			d.SetMultipathTCP(false)
			began := time.Now()
			c, err := r.Host().Dial(ctx, d, "tcp", netip.MustParseAddrPort(tt.to).String())
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if tt.want == nil && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if took := time.Since(began); tt.want != nil && took > 300*time.Millisecond {
				t.Errorf("after %v", took)
			}
		})
	}
	for _, to := range []netip.Addr{lab.Server4, lab.Server6} {
		for range 2 { // converted, then direct
			rep := transfer(t, fromHost(r, to, speaker), traffic.Download, 4e6)
			if rep.Connect > 300*time.Millisecond {
				t.Errorf("connected after %v", rep.Connect)
			}
			t.Log(rep)
		}
	}
	rep, err := r.FromHost(lab.Server4).Run(t.Context(), traffic.Load{Clients: 16, Bytes: 1000, For: 2 * time.Second})
	must(t, err)
	if rep.Connections < 100 {
		t.Errorf("%v", rep)
	}
	t.Log(rep)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
