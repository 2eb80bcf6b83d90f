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

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// converts waits until new connections are converted.
func converts(t *testing.T, r *rig.Rig) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) })
		if c.Convert != 1 {
			return fmt.Errorf("the agent counted %+v", c)
		}
		return nil
	})
}

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
			converts(t, r)
			tt.gone(t, r)
			eventually(t, 10*time.Second, func() (err error) {
				c := counted(t, r, func() {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					var rep traffic.Report
					if rep, err = r.FromHost(lab.Server4).Do(ctx, traffic.Echo, traffic.Request{Bytes: 1e5}); err == nil && rep.FirstByte > 3*time.Second {
						t.Errorf("first byte after %v", rep.FirstByte)
					}
				})
				if err == nil && (c.Direct != 1 || c.Convert != 0) {
					err = fmt.Errorf("the agent counted %+v", c)
				}
				return err
			})
			if p := identify(t, r.FromHost(lab.Server4)); p.Remote.Addr() != r.WAN("fibre").Public4 {
				t.Errorf("the server sees %v", p.Remote)
			}
			tt.there(t, r)
			converts(t, r)
		})
	}
}

func TestFallbackReject(t *testing.T) {
	uci := strings.Replace(rig.DefaultUCI, "list lan 'lan0'", "list lan 'lan0'\n\toption fallback 'reject'", 1)
	r := start(t, rig.Options{UCI: uci})
	converts(t, r)
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
	converts(t, r)
}
