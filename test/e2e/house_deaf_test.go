// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"braid/agent/config"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// A server whose IPv6 leads nowhere, which its host would find out by itself and
// take IPv4: the first connection is answered before anybody knows; while it
// still waits, the next one goes to the network itself.
func TestHouseWithDeafServer(t *testing.T) {
	for _, b := range backends {
		t.Run(b, func(t *testing.T) {
			uci := backend(t, b, rig.DefaultUCI)
			r := start(t, rig.Options{Idle: true})
			must(t, r.WriteUCI(uci))
			must(t, r.StartMCP("-client", "0.0.0.0/0"))
			must(t, r.StartAgent())
			deaf := netip.AddrPortFrom(lab.Server6, rig.Port)
			nft(t, r.Server, `table ip6 deaf { chain input { type filter hook input priority 0; tcp dport 8080 drop; }; }`)

			first, err := dial(t, r.Host(), deaf.Addr(), deaf.Port())
			must(t, err)
			_, err = io.WriteString(first, "hello")
			must(t, err)
			eventually(t, 10*time.Second, func() error {
				if e := explained(t, r, deaf); e.Path != config.PathPass {
					return fmt.Errorf("it is explained: %+v", e)
				}
				return nil
			})
			notTaken(t, r, func() {
				d := fromNode(r, r.Host(), deaf.Addr(), deaf.Port()) // for 5 s
				if p, err := d.Identify(t.Context()); err == nil {
					t.Errorf("somebody answers for the server: %+v", p)
				}
			})
			if c := counted(t, r, func() { transfer(t, r.FromHost(lab.Server4), traffic.Echo, 1e5) }); c.Convert != 1 {
				t.Errorf("over IPv4: %+v", c)
			}
			sh(t, r.Server, "nft delete table ip6 deaf")
			notTaken(t, r, func() {
				if p := identify(t, fromNode(r, r.Host(), deaf.Addr(), deaf.Port())); over(r, p.Remote.Addr()) == "" {
					t.Errorf("it is seen from %v", p.Remote)
				}
			})
		})
	}
}

// A line that is lost leaves every server without an answer, and none is spared
// for it.
func TestHouseWithoutLinesForAWhile(t *testing.T) {
	r := start(t, rig.Options{})
	sh(t, r.Gateway, "nft 'table inet hole { chain output { type filter hook output priority 0; oifname { \"fibre\", \"lte\" } drop; }; }'")
	c, err := dial(t, r.Host(), lab.Server4, rig.Port)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1)) // until it is given up
	}
	if err == nil {
		t.Error("a byte came through a hole")
	}
	sh(t, r.Gateway, "nft delete table inet hole")
	eventually(t, 10*time.Second, func() error {
		c := counted(t, r, func() {
			_, err = r.FromHost(lab.Server4).Identify(t.Context())
		})
		if err != nil || c.Total != 1 {
			return fmt.Errorf("after it: %+v, %v", c, err)
		}
		return nil
	})
}
