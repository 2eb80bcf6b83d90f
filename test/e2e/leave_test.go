// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"braid/agent/config"
	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// speaker is the port of a server that speaks MPTCP.
const speaker = 8443

// fromHost dials a port of a server from the LAN host.
func fromHost(r *rig.Rig, to netip.Addr, port uint16) traffic.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		return r.Host().Dial(ctx, d, "tcp", netip.AddrPortFrom(to, port).String())
	}
}

// serveMPTCP starts a server that speaks MPTCP, and lets second subflows in.
func serveMPTCP(t *testing.T, r *rig.Rig) *traffic.Server {
	t.Helper()
	sh(t, r.Server, "ip mptcp limits set subflows 8")
	s, err := r.Serve(r.Server, true, speaker)
	must(t, err)
	return s
}

// carriedBy makes a transfer and says how it was carried and how many
// subflows it had towards the end.
func carriedBy(t *testing.T, r *rig.Rig, to netip.Addr, bytes int64) report.Connection {
	t.Helper()
	eventually(t, 5*time.Second, func() error { // beside an open one it would take the same way
		if n := status(t, r).Connections.Open; n > 0 {
			return fmt.Errorf("%d connections are still open", n)
		}
		return nil
	})
	var seen report.Connection
	done := make(chan error, 1)
	go func() {
		_, err := fromHost(r, to, speaker).Do(t.Context(), traffic.Download, traffic.Request{Bytes: bytes})
		done <- err
	}()
	for {
		select {
		case err := <-done:
			must(t, err)
			return seen
		case <-time.After(50 * time.Millisecond):
			if cs := connections(t, r); len(cs) > 0 && len(cs[0].Subflows) >= len(seen.Subflows) {
				seen = cs[0]
			}
		}
	}
}

func wantPath(t *testing.T, c report.Connection, p config.Path, subflows int) {
	t.Helper()
	if c.Path != p || len(c.Subflows) != subflows {
		t.Errorf("carried by %s with %d subflows, want %s with %d: %+v", c.Path, len(c.Subflows), p, subflows, c)
	}
}

// Case 1 of the exchange that braid comes from: the server speaks MPTCP, the
// cellular line has RFC 6598 IPv4 behind the carrier's NAT. The converter
// takes itself out, and both lines still carry.
func TestConverterLeaves(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	serveMPTCP(t, r)
	wantPath(t, carriedBy(t, r, lab.Server4, 4e6), config.PathConvert, 2)
	through := metric(t, r, "braid_mcp_relayed_total")
	before := r.Server.MIB("MPTcpExtMPJoinAckRx")
	wantPath(t, carriedBy(t, r, lab.Server4, 8e6), config.PathDirect, 2)
	if got := r.Server.MIB("MPTcpExtMPJoinAckRx") - before; got != 1 {
		t.Errorf("%d joins at the server, want 1", got)
	}
	if got := metric(t, r, "braid_mcp_relayed_total"); got != through {
		t.Errorf("the converter has carried %v connections, was %v", got, through)
	}
}

// Case 2: the cellular line has only IPv6, the server only IPv4. Leaving would
// cost that line, so the converter stays, although the server speaks MPTCP.
func TestConverterStays(t *testing.T) {
	o := lines()
	o.Accesses[1].V4 = lab.None
	r := start(t, rig.Options{Lab: o})
	serveMPTCP(t, r)
	for range 3 {
		wantPath(t, carriedBy(t, r, lab.Server4, 4e6), config.PathConvert, 2)
	}
	out, err := r.Braid("explain", fmt.Sprintf("%s:%d", lab.Server4, speaker))
	must(t, err)
	if want := "lte cannot reach it without the converter"; !strings.Contains(string(out), want) {
		t.Errorf("explained by %q, want %q", out, want)
	}
	// An IPv6 server that speaks MPTCP is reached over both.
	wantPath(t, carriedBy(t, r, lab.Server6, 4e6), config.PathConvert, 2)
}

// A server that stops speaking MPTCP must not break a connection: the one that
// finds out goes back to the converter, and so do those after it.
func TestServerStopsSpeaking(t *testing.T) {
	r := start(t, rig.Options{Lab: lines()})
	s := serveMPTCP(t, r)
	wantPath(t, carriedBy(t, r, lab.Server4, 2e6), config.PathConvert, 2)
	wantPath(t, carriedBy(t, r, lab.Server4, 2e6), config.PathDirect, 2)
	s.Close()
	_, err := r.Serve(r.Server, false, speaker)
	must(t, err)
	for range 2 {
		if c := carriedBy(t, r, lab.Server4, 2e6); c.Path != config.PathConvert {
			t.Errorf("carried by %s", c.Path)
		}
	}
}

// The server takes no second subflow: it is converted again once that is seen.
func TestJoinsFail(t *testing.T) {
	for name, how := range map[string]func(*testing.T, *rig.Rig){
		"C flag": func(t *testing.T, r *rig.Rig) {
			must(t, r.Server.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
		},
		"no joins": func(t *testing.T, r *rig.Rig) {
			nft(t, r.Server, "table ip t {\n chain c {\n type filter hook input priority 0\n tcp option mptcp subtype 1 drop\n }\n}")
		},
		// What comes from the cellular line lands at another server, which knows
		// nothing of the connection and resets the join.
		"two backends": func(t *testing.T, r *rig.Rig) {
			_, err := r.Serve(r.Converter, true, speaker)
			must(t, err)
			nft(t, r.Core, fmt.Sprintf("table ip balancer {\n chain c {\n type nat hook prerouting priority dstnat\n"+
				"ip saddr %v ip daddr %v tcp dport %d dnat to %v\n }\n}", r.WAN("lte").Public4, lab.Server4, speaker, lab.Converter4))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rig.Options{Lab: lines()})
			serveMPTCP(t, r)
			how(t, r)
			wantPath(t, carriedBy(t, r, lab.Server4, 2e6), config.PathConvert, 2)
			wantPath(t, carriedBy(t, r, lab.Server4, 20e6), config.PathDirect, 1)
			wantPath(t, carriedBy(t, r, lab.Server4, 2e6), config.PathConvert, 2)
		})
	}
}
