// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests braid as a whole: the programs that users run, in a world
// of network namespaces, judged by the kernel's counters and by bytes.
//
// The world is that of package lab. The gateway's agent bonds fibre and lte
// and converts at 192.0.2.10; test servers speak plain TCP:
//
//	                       .-- fibre (198.51.100.2) --.
//	host ---- gateway -----+                          +---- core ---- converter
//	          braid agent  '-- lte (100.64.0.2, NAT) -'       |       braid-mcp
//	                                                          '------ server
package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// bin is where TestMain has built the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "braid-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", dir, "./agent/cmd/braid", "./mcp/cmd/braid-mcp")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
		return 1
	}
	bin = dir
	return m.Run()
}

// start puts up a rig for the length of a test, and shows what the programs
// logged should it fail.
func start(t *testing.T, o rig.Options) *rig.Rig {
	t.Helper()
	o.Bin = cmp.Or(o.Bin, bin)
	// Not the test's own context: it ends before the agent has given the
	// kernel back.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := rig.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range []*rig.Process{r.Agent, r.MCP} {
				if p != nil {
					t.Log(p.Log())
				}
			}
		}
	})
	return r
}

// lines is the lab of 50 Mbit/s at 10 ms and 20 Mbit/s at 30 ms.
func lines() lab.Options {
	fast := link.Spec{Rate: 50e6, Delay: 10 * time.Millisecond}
	slow := link.Spec{Rate: 20e6, Delay: 30 * time.Millisecond}
	return lab.Options{Accesses: []lab.Access{lab.Fibre(fast, fast), lab.LTE(slow, slow)}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sh runs a shell script on a node.
func sh(t *testing.T, n *lab.Node, script string) string {
	t.Helper()
	out, err := n.Run(script)
	must(t, err)
	return strings.TrimSpace(out)
}

// nft loads a ruleset on a node.
func nft(t *testing.T, n *lab.Node, ruleset string) {
	t.Helper()
	sh(t, n, "nft -f - <<'.'\n"+ruleset+"\n.")
}

// transfer makes one in which every byte is checked.
func transfer(t *testing.T, d traffic.Dial, op traffic.Op, bytes int64) traffic.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rep, err := d.Do(ctx, op, traffic.Request{Bytes: bytes})
	if err != nil {
		t.Fatalf("%v: %v", rep, err)
	}
	return rep
}

// background starts an endless download that stop ends after at most a read;
// stop tells what it was like.
func background(t *testing.T, d traffic.Dial) (stop func() traffic.Report) {
	t.Helper()
	return endless(t, d, traffic.Download)
}

// endless starts a transfer that lasts until stop ends it, and tells what it was
// like. A download breaks off then; of the others each byte has to arrive.
func endless(t *testing.T, d traffic.Dial, op traffic.Op) (stop func() traffic.Report) {
	t.Helper()
	type result struct {
		rep traffic.Report
		err error
	}
	var conn net.Conn
	dialedC, resultC := make(chan error, 1), make(chan result, 1)
	go func() {
		rep, err := traffic.Dial(func(ctx context.Context) (c net.Conn, err error) {
			conn, err = d(ctx)
			dialedC <- err
			return conn, err
		}).Do(t.Context(), op, traffic.Request{Bytes: traffic.Endless, For: 5 * time.Minute})
		resultC <- result{rep, err}
	}()
	must(t, <-dialedC)
	return func() traffic.Report {
		t.Helper()
		end := conn.SetReadDeadline
		if op != traffic.Download {
			end = conn.SetWriteDeadline
		}
		var res result
		for ended := false; !ended; {
			end(time.Unix(1, 0)) // which to the transfer is the end of For, once it has begun
			select {
			case res = <-resultC:
				ended = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		if res.err != nil {
			t.Errorf("%v: %v", res.rep, res.err)
		}
		return res.rep
	}
}

// identify asks the test server whom it sees.
func identify(t *testing.T, d traffic.Dial) traffic.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	p, err := d.Identify(ctx)
	must(t, err)
	return p
}

// dial opens a connection to any port, for at most 10 s.
func dial(t *testing.T, n *lab.Node, to netip.Addr, port uint16) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second}
	d.SetMultipathTCP(false)
	c, err := n.Dial(t.Context(), d, "tcp", netip.AddrPortFrom(to, port).String())
	if err == nil {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// listen opens a plain TCP listener on a node.
func listen(t *testing.T, n *lab.Node, port uint16) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := n.Listen(t.Context(), lc, "tcp", ":"+strconv.Itoa(int(port)))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// patience is how many times longer than it should things may take on a machine
// that does other work beside.
const patience = 4

// eventually waits until a check passes, for patience times what it should take
// at most. How long it took is for others to tell.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	within *= patience
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", within, err)
		}
	}
}

func status(t *testing.T, r *rig.Rig) report.Status {
	t.Helper()
	s, err := r.Status()
	must(t, err)
	return s
}

// counted tells what f changed of the agent's counters of connections.
func counted(t *testing.T, r *rig.Rig, f func()) report.Totals {
	t.Helper()
	before := status(t, r).Connections
	f()
	after := status(t, r).Connections
	return report.Totals{
		Open:        after.Open - before.Open,
		Total:       after.Total - before.Total,
		Convert:     after.Convert - before.Convert,
		Direct:      after.Direct - before.Direct,
		TCPFallback: after.TCPFallback - before.TCPFallback,
	}
}

// notTaken fails if the agent took a connection while f ran.
func notTaken(t *testing.T, r *rig.Rig, f func()) {
	t.Helper()
	if c := counted(t, r, f); c.Total != 0 {
		t.Errorf("braid took connections: %+v", c)
	}
}

// connections asks the agent for what it carries.
func connections(t *testing.T, r *rig.Rig) []report.Connection {
	t.Helper()
	out, err := r.Braid("connections", "-json")
	must(t, err)
	var cs report.Connections
	must(t, json.Unmarshal(out, &cs))
	return cs.Connections
}
