// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/rig"
)

// twinAddress is what the twins have in common, twinOwn what each signals.
const twinAddress = "192.0.2.200"

var twinOwn = []netip.Addr{lab.Converter4, netip.MustParseAddr("192.0.2.138")}

// How the router spreads connections (net.ipv4.fib_multipath_hash_policy).
const (
	spreadByAddresses = "0"
	spreadByPorts     = "1"
)

// twins starts two converters behind one address, to which a house with two
// lines is a client; both are told how they know it.
func twins(t *testing.T, client, option, spread string) (r *rig.Rig, nodes []*lab.Node, programs []*rig.Process) {
	t.Helper()
	r = start(t, rig.Options{Lab: lines(), Idle: true, UCI: strings.Replace(rig.DefaultUCI, lab.Converter4.String(), twinAddress, 1) + option})
	second, err := r.AddStub("mcp2", twinOwn[1], netip.MustParseAddr("2001:db8:2::10"))
	must(t, err)
	nodes = []*lab.Node{r.Converter, second}
	for i, n := range nodes {
		must(t, n.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
		must(t, n.Sysctl("net.ipv4.tcp_fastopen_key", "00000001-00000002-00000003-00000004")) // either's cookie holds at both
		sh(t, n, "ip address add "+twinAddress+"/32 dev lo")
		file := filepath.Join(t.TempDir(), "mcp.toml")
		must(t, os.WriteFile(file, fmt.Appendf(nil, "metrics = \"\"\nannounce = [\"%v\"]\n[[client]]\nname = \"all\"\n%s\n", twinOwn[i], client), 0o600))
		p, err := r.StartMCPAt(n, "-config", file, "-socket", filepath.Join(t.TempDir(), "control"), "-log", "debug")
		must(t, err)
		t.Cleanup(func() {
			p.Stop()
			if t.Failed() {
				t.Log(p.Log())
			}
		})
		programs = append(programs, p)
	}
	must(t, r.Core.Sysctl("net.ipv4.fib_multipath_hash_policy", spread))
	sh(t, r.Core, fmt.Sprintf("ip route replace %s/32 nexthop via %v nexthop via %v", twinAddress, twinOwn[0], twinOwn[1]))
	must(t, r.StartAgent())
	return r, nodes, programs
}

// Two converters have one address, over which a router spreads connections:
//
//	            fibre                  .--- mcp   192.0.2.10  + 192.0.2.200
//	gateway ---<      >--- core (ECMP)<
//	            lte                    '--- mcp2  192.0.2.138 + 192.0.2.200
//
// A join to the common address would come to either. So they forbid it (the C
// flag of RFC 8684 section 3.1), and signal an address of their own, which the
// gateway's kernel joins (6.18).
func TestTwinConverters(t *testing.T) {
	r, nodes, programs := twins(t, "networks = [\"0.0.0.0/0\"]", "", spreadByPorts)
	eventually(t, 5*time.Second, func() error {
		if c := status(t, r).Converters[0]; c.State != "up" {
			return fmt.Errorf("the converter is %s", c.State)
		}
		return nil
	})
	// As many connections as it takes for both to have some, and each over both lines.
	const port = 7
	l := listen(t, r.Server, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	echo := func(c net.Conn) error {
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		return err
	}
	const all = 12
	var conns []net.Conn
	for range all {
		c, err := dial(t, r.Host(), lab.Server4, port)
		must(t, err)
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		must(t, echo(c))
		conns = append(conns, c)
	}
	// Each has as many subflows as twice the connections that it carries.
	count := func(n *lab.Node, filter string) int {
		return len(strings.Fields(sh(t, n, "ss -Htn state established "+filter+" | cut -d' ' -f1")))
	}
	carried := func(i int) (of int, err error) {
		of = count(nodes[i], "dst "+lab.Server4.String())
		if subflows := count(nodes[i], "sport = :5124"); subflows != 2*of {
			err = fmt.Errorf("%v has %d subflows of %d connections", twinOwn[i], subflows, of)
		}
		return of, err
	}
	var before [2]int
	eventually(t, 5*time.Second, func() error {
		var errs [2]error
		for i := range nodes {
			before[i], errs[i] = carried(i)
		}
		if before[0] == 0 || before[1] == 0 || before[0]+before[1] != all {
			return fmt.Errorf("of %d connections they carry %v", all, before)
		}
		return errors.Join(errs[:]...)
	})

	// The second dies, and the router learns of it. What the first carries goes on.
	programs[1].Kill()
	sh(t, r.Core, fmt.Sprintf("ip route replace %s/32 via %v", twinAddress, twinOwn[0]))
	left := 0
	for _, c := range conns {
		if echo(c) == nil {
			left++
		}
	}
	if left != before[0] {
		t.Errorf("%d connections are left of %v", left, before)
	}
	c := counted(t, r, func() {
		for range 4 {
			if took := get(t, r, lab.Server4); took > time.Second {
				t.Errorf("a connection took %v", took)
			}
		}
	})
	if c.Convert != 4 {
		t.Errorf("after the death of one: %+v", c)
	}
	eventually(t, 5*time.Second, func() error {
		of, err := carried(0)
		if err == nil && of != before[0] {
			err = fmt.Errorf("the first carries %d, before %d", of, before[0])
		}
		return err
	})
}

// A house that proves a key to one of the twins has a ticket of that one's. Spread
// by addresses, it finds the same one each time, and of another only when that has
// died: no connection goes straight, none of two is dialled with one proof. Spread
// by ports it may find neither twice; then it goes straight.
func TestTwinConvertersWithKey(t *testing.T) {
	const key = "000102030405060708090a0b0c0d0e0f"
	for name, spread := range map[string]string{"by addresses": spreadByAddresses, "by ports": spreadByPorts} {
		t.Run(name, func(t *testing.T) {
			r, _, programs := twins(t, "key = \""+key+"\"", "\toption key '"+key+"'\n", spread)
			eventually(t, 5*time.Second, func() error {
				if c := status(t, r).Converters[0]; c.State != "up" {
					return fmt.Errorf("the converter is %s", c.State)
				}
				return nil
			})
			const all = 24
			gets := func() report.Totals {
				return counted(t, r, func() {
					for range all {
						if took := get(t, r, lab.Server4); took > time.Second {
							t.Errorf("a connection took %v", took)
						}
					}
				})
			}
			c := gets()
			t.Logf("of %d connections %d were converted, %d went straight", all, c.Convert, c.Direct)
			if c.Convert+c.Direct != all {
				t.Errorf("of %d connections the agent counted %+v", all, c)
			}
			if spread == spreadByPorts {
				return
			}
			if c.Convert != all {
				t.Errorf("%d went straight", c.Direct)
			}
			// The one that they have found dies, and the router learns of it.
			serves := 0
			if n := strings.Count(programs[1].Log(), "msg=closed"); n > 0 {
				serves = 1
			}
			programs[serves].Kill()
			sh(t, r.Core, fmt.Sprintf("ip route replace %s/32 via %v", twinAddress, twinOwn[1-serves]))
			if c := gets(); c.Convert != all {
				t.Errorf("after the death of one, of %d connections the agent counted %+v", all, c)
			}
		})
	}
}
