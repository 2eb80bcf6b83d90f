// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// carries waits until a new connection is carried, and counted as check says.
func carries(t *testing.T, r *rig.Rig, check func(report.Totals) bool) {
	t.Helper()
	eventually(t, 15*time.Second, func() (err error) {
		var rep traffic.Report
		c := counted(t, r, func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			rep, err = r.FromHost(lab.Server4).Do(ctx, traffic.Echo, traffic.Request{Bytes: 1e5})
		})
		if err != nil {
			return fmt.Errorf("%v: %w", rep, err)
		}
		if !check(c) {
			return fmt.Errorf("the agent counted %+v", c)
		}
		if rep.FirstByte > 3*time.Second {
			t.Errorf("first byte after %v", rep.FirstByte)
		}
		return nil
	})
}

func converted(c report.Totals) bool { return c.Convert == 1 && c.Direct == 0 }
func direct(c report.Totals) bool    { return c.Convert == 0 && c.Direct == 1 }

// Without a converter connections go straight to the server.
func TestFallbackDirect(t *testing.T) {
	for _, tt := range []struct {
		name        string
		gone, there func(t *testing.T, r *rig.Rig)
	}{
		{"killed",
			func(t *testing.T, r *rig.Rig) { r.MCP.Kill() },
			func(t *testing.T, r *rig.Rig) { must(t, r.StartMCP("-client", "0.0.0.0/0")) }},
		{"silent",
			func(t *testing.T, r *rig.Rig) {
				nft(t, r.Converter, "table inet silent {\nchain input {\ntype filter hook input priority filter\ntcp dport 5124 drop\n}\n}")
			},
			func(t *testing.T, r *rig.Rig) { sh(t, r.Converter, "nft delete table inet silent") }},
		{"refuses us",
			func(t *testing.T, r *rig.Rig) {
				must(t, r.MCP.Stop())
				must(t, r.StartMCP("-client", "192.0.2.200/32"))
			},
			func(t *testing.T, r *rig.Rig) {
				must(t, r.MCP.Stop())
				must(t, r.StartMCP("-client", "0.0.0.0/0"))
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, rig.Options{})
			carries(t, r, converted)
			tt.gone(t, r)
			carries(t, r, direct)
			// Refused over one line, it is asked over the other first.
			eventually(t, 5*time.Second, func() error {
				if p := identify(t, r.FromHost(lab.Server4)); p.Remote.Addr() != r.WAN("fibre").Public4 {
					return fmt.Errorf("the server sees %v", p.Remote)
				}
				return nil
			})
			tt.there(t, r)
			carries(t, r, converted)
		})
	}
}

func TestFallbackReject(t *testing.T) {
	uci := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption fallback 'reject'", 1)
	r := start(t, rig.Options{UCI: uci})
	carries(t, r, converted)
	r.MCP.Kill()
	arrived := r.Server.MIB("TcpPassiveOpens")
	c, err := dial(t, r.Host(), lab.Server4, rig.Port)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the host saw %v", err)
	}
	if n := r.Server.MIB("TcpPassiveOpens") - arrived; n != 0 {
		t.Errorf("the server has %d connections", n)
	}
	must(t, r.StartMCP("-client", "0.0.0.0/0"))
	carries(t, r, converted)
}
