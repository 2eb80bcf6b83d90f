// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// memory reads a line of a process's status, in bytes.
func memory(t *testing.T, p *rig.Process, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kB, err := strconv.Atoi(strings.Fields(value)[0])
			must(t, err)
			return kB << 10
		}
	}
	t.Fatalf("no %s in\n%s", field, b)
	return 0
}

// entries counts those of a directory of a process in /proc.
func entries(t *testing.T, p *rig.Process, dir string) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.Pid(), dir))
	must(t, err)
	return len(list)
}

// An idle agent is small, and an open connection costs it little.
func TestMemory(t *testing.T) {
	const (
		count   = 2000
		maxIdle = 14 << 20 // resident; 8.5 MB of it are pages of the program, which all processes share
		maxEach = 20_000
	)
	r := start(t, rig.Options{UCI: strings.Replace(rig.DefaultUCI, "'debug'", "'info'", 1)})
	if n := memory(t, r.Agent, "VmRSS"); n > maxIdle {
		t.Errorf("idle: %d bytes resident", n)
	} else {
		t.Logf("idle: %.1f MB resident", float64(n)/1e6)
	}
	l := listen(t, r.Server, rawPort)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	before := memory(t, r.Agent, "RssAnon")
	slots := make(chan bool, 50)
	var wg sync.WaitGroup
	for range count {
		slots <- true
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := dial(t, r.Host(), lab.Server4, rawPort)
			if err != nil {
				t.Error(err)
				return
			}
			c.Write(make([]byte, 1000)) // so that it has been used
			if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := status(t, r).Connections.Open; n != count {
		t.Errorf("%d connections are open", n)
	}
	after := memory(t, r.Agent, "RssAnon")
	if each := (after - before) / count; each > maxEach {
		t.Errorf("%d bytes a connection", each)
	} else {
		t.Logf("%d bytes a connection, %.1f MB resident", each, float64(memory(t, r.Agent, "VmRSS"))/1e6)
	}
}

// Connections leave nothing behind in the programs.
func TestNoLeak(t *testing.T) {
	r := start(t, rig.Options{})
	l := listen(t, r.Server, rawPort)
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if i%2 == 0 {
				reset(c)
			} else {
				c.(*net.TCPConn).CloseWrite() // and leave the rest to the host
			}
		}
	}()
	round := func() {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				switch i % 4 {
				case 0:
					r.FromHost(lab.Server4).Do(t.Context(), traffic.Echo, traffic.Request{Bytes: 10_000})
				case 1:
					if c, err := dial(t, r.Host(), lab.Server4, 81); err == nil { // refused
						io.Copy(io.Discard, c)
						c.Close()
					}
				case 2:
					if c, err := dial(t, r.Host(), lab.Server4, rawPort); err == nil {
						io.Copy(io.Discard, c)
						c.Close()
					}
				case 3:
					if c, err := dial(t, r.Host(), lab.Server4, rawPort); err == nil {
						reset(c)
					}
				}
			})
		}
		wg.Wait()
		eventually(t, 10*time.Second, func() error {
			if n := status(t, r).Connections.Open; n != 0 {
				return fmt.Errorf("%d connections are open", n)
			}
			return nil
		})
	}
	for range 2 {
		round() // pools and threads are there now
	}
	type use struct{ agentFDs, agentThreads, mcpFDs, mcpThreads, mcpGoroutines int }
	look := func() use {
		return use{entries(t, r.Agent, "fd"), entries(t, r.Agent, "task"), entries(t, r.MCP, "fd"), entries(t, r.MCP, "task"),
			int(metric(t, r, "go_goroutines"))}
	}
	before := look()
	for range 3 {
		round()
	}
	eventually(t, 10*time.Second, func() error {
		now := look()
		if now.agentFDs > before.agentFDs+3 || now.mcpFDs > before.mcpFDs+3 || now.mcpGoroutines > before.mcpGoroutines+3 ||
			now.agentThreads > before.agentThreads+5 || now.mcpThreads > before.mcpThreads+5 {
			return fmt.Errorf("before %+v, now %+v", before, now)
		}
		return nil
	})
	// A server that resets at once may be taken for one that cannot be reached, at the first
	// beat after a second: what goes to it is then forwarded.
	if c := status(t, r).Connections; c.Total < 500 || c.Total > 1000 {
		t.Errorf("the agent counted %+v", c)
	}
}
