// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// explain asks the agent how a connection to the test server would be carried.
func explain(t *testing.T, r *rig.Rig, server netip.Addr) (e report.Explanation) {
	t.Helper()
	out, err := r.Braid("explain", netip.AddrPortFrom(server, rig.Port).String(), "-json")
	must(t, err)
	must(t, json.Unmarshal(out, &e))
	return e
}

// get makes a small request, and tells how long the answer took.
func get(t *testing.T, r *rig.Rig, server netip.Addr) time.Duration {
	t.Helper()
	rep, err := r.FromHost(server).Do(t.Context(), traffic.Echo, traffic.Request{Bytes: 2000})
	if err != nil || rep.Mismatch >= 0 {
		t.Errorf("%v, %v", rep, err)
	}
	return rep.Duration
}

// withoutFamily is a converter that cannot reach one family, in a house whose
// LAN and lines have both. Its own lines to the gateway are the other family's.
func withoutFamily(t *testing.T, converter, lacks netip.Addr, family string) {
	// Neither way of learning it may fail: told by the converter, and shown by
	// connections after the converter had told otherwise.
	for _, tt := range []struct {
		name   string
		before bool // the agent's start
	}{{"from the start", true}, {"later", false}} {
		t.Run(tt.name, func(t *testing.T) {
			o := lines()
			uci := strings.Replace(rig.DefaultUCI, "192.0.2.10", converter.String(), 1)
			r := start(t, rig.Options{Lab: o, UCI: uci, Idle: true})
			lose := func() { sh(t, r.Converter, "ip "+family+" route del default") }
			reaches := func() *bool {
				c := status(t, r).Converters
				if len(c) != 1 {
					t.Fatalf("converters %+v", c)
				}
				if lacks.Is6() {
					return c[0].IPv6
				}
				return c[0].IPv4
			}
			if tt.before {
				lose()
			}
			must(t, r.StartMCP("-client", "0.0.0.0/0", "-client", "::/0"))
			must(t, r.StartAgent())
			eventually(t, 5*time.Second, func() error {
				if x := reaches(); x == nil || *x == tt.before {
					return fmt.Errorf("the converter reaches %v: %v", lacks, x)
				}
				return nil
			})
			if !tt.before {
				lose()
			}
			var took time.Duration
			served, resets := r.Server.MIB("TcpPassiveOpens"), r.Host().MIB("TcpEstabResets")
			c := counted(t, r, func() {
				for range 20 {
					took = max(took, get(t, r, lacks))
				}
			})
			if n := r.Server.MIB("TcpPassiveOpens") - served; n != 20 || c.Direct != 20 || c.Convert != 0 {
				t.Errorf("the server has had %d connections, the agent counted %+v", n, c)
			}
			if n := r.Host().MIB("TcpEstabResets") - resets; n != 0 {
				t.Errorf("the host saw %d resets", n)
			}
			// 20 ms there and back, thrice: the handshake, the request, and what
			// the converter cost; and time for a busy machine.
			t.Logf("the longest took %v", took)
			if took > 500*time.Millisecond {
				t.Errorf("one took %v", took)
			}
			if p := identify(t, r.FromHost(lacks)); p.Remote.Addr() == lab.Converter4 || p.Remote.Addr() == lab.Converter6 {
				t.Errorf("the server sees %v", p.Remote)
			}
			eventually(t, 5*time.Second, func() error {
				if x := reaches(); x == nil || *x {
					return fmt.Errorf("the converter reaches %v: %v", lacks, x)
				}
				return nil
			})
			if e := explain(t, r, lacks); e.Path != "direct" || !strings.Contains(e.Reason, "converter mcp") {
				t.Errorf("explained by %+v", e)
			}
			other := lab.Server4
			if lacks.Is4() {
				other = lab.Server6
			}
			if c := counted(t, r, func() { get(t, r, other) }); !converted(c) {
				t.Errorf("the other family: %+v", c)
			}
		})
	}
}

func TestHouseConverterWithoutIPv6(t *testing.T) {
	withoutFamily(t, lab.Converter4, lab.Server6, "-6")
}

func TestHouseConverterWithoutIPv4(t *testing.T) {
	withoutFamily(t, lab.Converter6, lab.Server4, "-4")
}

// A server that wants nothing of data centres: it drops, prohibits or resets
// what comes from the converter, and serves the house.
func TestHouseServerAgainstConverters(t *testing.T) {
	for _, accept := range []string{"early", "late"} {
		for _, tt := range []struct {
			name, verdict, reason string
			first                 time.Duration
		}{
			{"drops", "drop", "does not answer converter mcp", 2 * time.Second},
			{"prohibits", "reject with icmpx admin-prohibited", "prohibited from converter mcp", 500 * time.Millisecond},
			{"resets", "reject with tcp reset", "refuses converter mcp", 500 * time.Millisecond},
		} {
			t.Run(tt.name+", "+accept, func(t *testing.T) {
				o := lines()
				o.ServerDelay = time.Millisecond // ICMP that comes back within the system call that sent the SYN is not believed
				uci := rig.DefaultUCI
				if accept == "late" {
					uci = lateUCI
				}
				r := start(t, rig.Options{Lab: o, UCI: uci})
				sh(t, r.Server, "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
				nft(t, r.Server, fmt.Sprintf(`table inet t {
					chain c {
						type filter hook input priority 0
						ip saddr %v meta l4proto tcp counter %s
						ip6 saddr %v meta l4proto tcp counter %s
					}
				}`, lab.Converter4, tt.verdict, lab.Converter6, tt.verdict))
				for _, server := range []netip.Addr{lab.Server4, lab.Server6} {
					served := r.Server.MIB("TcpPassiveOpens")
					c := counted(t, r, func() {
						first, later := get(t, r, server), time.Duration(0)
						for range 5 {
							later = max(later, get(t, r, server))
						}
						t.Logf("%v: the first took %v, the longest later one %v", server, first, later)
						if first > tt.first || later > 500*time.Millisecond {
							t.Errorf("%v: the first took %v, a later one %v", server, first, later)
						}
					})
					if n := r.Server.MIB("TcpPassiveOpens") - served; n != 6 || c.Direct != 6 || c.Convert != 0 {
						t.Errorf("%v has had %d connections, the agent counted %+v", server, n, c)
					}
					if e := explain(t, r, server); e.Path != "direct" || !strings.Contains(e.Reason, tt.reason) {
						t.Errorf("explained by %+v", e)
					}
				}
				s := status(t, r)
				if s.Converters[0].State != "up" || s.State != report.StateOK {
					t.Errorf("state %s, converter %s", s.State, s.Converters[0].State)
				}
				for _, x := range []*bool{s.Converters[0].IPv4, s.Converters[0].IPv6} {
					if x == nil || !*x {
						t.Errorf("the converter counts as one without a family: %+v", s.Converters[0])
					}
				}
			})
		}
	}
}

// A converter at its limit is full, not down: what it carries goes on, what is
// new goes straight, and it is used again when it has room.
func TestHouseConverterFull(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), Idle: true})
	file := filepath.Join(t.TempDir(), "mcp.toml")
	must(t, os.WriteFile(file, []byte(`listen = ["[::]:5124"]
metrics = "127.0.0.1:9124"
[[client]]
name = "house"
networks = ["0.0.0.0/0", "::/0"]
connections = 1
`), 0o600))
	must(t, r.StartMCP("-config", file))
	must(t, r.StartAgent())
	state := func() string { return status(t, r).Converters[0].State }
	eventually(t, 5*time.Second, func() error {
		if s := state(); s != "up" {
			return fmt.Errorf("the converter is %s", s)
		}
		return nil
	})
	stop := background(t, r.FromHost(lab.Server4))
	eventually(t, 5*time.Second, func() error {
		if n := len(connections(t, r)); n != 1 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	gets := uint64(0)
	c := counted(t, r, func() {
		eventually(t, 10*time.Second, func() error {
			gets++
			if took := get(t, r, lab.Server6); took > time.Second {
				t.Errorf("one took %v", took)
			}
			if s := state(); s != "full" || gets < 5 {
				return fmt.Errorf("the converter is %s after %d connections", s, gets)
			}
			return nil
		})
	})
	if c.Direct != gets || c.Convert != 0 {
		t.Errorf("of %d connections the agent counted %+v", gets, c)
	}
	stop()
	eventually(t, 10*time.Second, func() error {
		if s := state(); s != "up" {
			return fmt.Errorf("the converter is %s", s)
		}
		if c := counted(t, r, func() { get(t, r, lab.Server6) }); !converted(c) {
			return fmt.Errorf("carried otherwise: %+v", c)
		}
		return nil
	})
}
