// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"braid/transport/mptcp"
	"braid/transport/proof"
)

// idlers is how many idle connections TestCost opens, unless BRAID_IDLE says
// otherwise.
const idlers = 1000

// What a connection costs: processor time, memory while it is idle; and what a
// byte does. Where the files of one process are not enough for all that are idle,
// a successor takes over half-way, and they are the service's.
func TestCost(t *testing.T) {
	n := idlers
	if text := os.Getenv("BRAID_IDLE"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlace(t, fmt.Sprintf("metrics = \"\"\n[[client]]\nname = \"a\"\nkey = %q\nconnections = %d\n", shared, 2*n))
	far := echoApart(t)
	m := p.manage()
	m.start()
	secret, _ := hex.DecodeString(shared)
	g := gateway{proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), far); err != nil {
		t.Fatal(err)
	}

	const short = 500
	began, ticks := time.Now(), m.processor()
	for range short {
		if err := g.once(t.Context(), far); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a short connection: %v of the processor; %.0f a second, one after the other", (m.processor()-ticks)/short, short/time.Since(began).Seconds())

	before, slab := m.service(), unreclaimable()
	var idle []*mptcp.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	half := 2*n+1000 > int(limit.Cur)
	for i := range n {
		if half && i == n/2 {
			alone := m.service()
			old := m.main()
			m.signal(syscall.SIGUSR2)
			m.wait("it has handed over", func() bool { return m.main() != old })
			before.memory += m.service().memory - alone.memory // of an empty one
		}
		c, err := g.open(t.Context(), far)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	after := m.service()
	ticks = m.processor()
	time.Sleep(5 * time.Second)
	each := (after.memory - before.memory) / n
	t.Logf("before %+v, after %+v", before, after)
	// Half of the sockets are the client's and the server's.
	t.Logf("%d idle connections: %d bytes of the program's memory and about %d of the kernel's each, %d files, %.2f %% of a processor", n, each,
		(unreclaimable()-slab)/n/2, after.files-before.files, 100*(m.processor()-ticks).Seconds()/5)
	open := 0
	for _, c := range idle {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("y")); err == nil {
			if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
				open++
			}
		}
	}
	if open != n {
		t.Errorf("of %d idle connections %d are left", n, open)
	}
	if each > raceMemory*20<<10 || after.files-before.files > 2*n+32 {
		t.Errorf("an idle connection takes %d bytes; all take %d files", each, after.files-before.files)
	}

	const total = 500 << 20
	c := idle[len(idle)-1] // the main process's
	c.SetDeadline(time.Now().Add(time.Minute))
	ticks, began = m.processor(), time.Now()
	var writing sync.WaitGroup
	writing.Go(func() {
		b := make([]byte, 1<<20)
		for range total / len(b) {
			if _, err := c.Write(b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	if _, err := io.CopyN(io.Discard, c, total); err != nil {
		t.Error(err)
	}
	writing.Wait()
	t.Logf("a gigabyte there and back, beside them: %.2f s of the processor, %.0f Mbit/s", (m.processor()-ticks).Seconds()*1e9/total/2, 2*total*8/1e6/time.Since(began).Seconds())
}

// service is what all processes of the service take.
func (m *manager) service() (u footprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, pid := range m.pids {
		if gone(pid) {
			continue
		}
		one := footprintOf(pid)
		u = footprint{files: u.files + one.files, memory: u.memory + one.memory}
	}
	return u
}

// unreclaimable is what the kernel has allocated for its own objects, sockets
// among them, in bytes. Other programs' count, too.
func unreclaimable() int {
	b, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(b), "SUnreclaim:")
	f := strings.Fields(rest)
	kilobytes, _ := strconv.Atoi(f[0])
	return kilobytes << 10
}

// processor is the time that the main process has computed.
func (m *manager) processor() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	const user, system, second = 11, 12, 100
	var ticks time.Duration
	for _, i := range []int{user, system} {
		n, _ := strconv.Atoi(f[i])
		ticks += time.Duration(n)
	}
	return ticks * time.Second / second
}

// A connection that has a few bytes echoed takes at most 37 system calls, those
// aside with which the runtime waits.
func TestSystemCalls(t *testing.T) {
	const most, connections = 37, 20
	p := newPlace(t, "metrics = \"\"\n[[client]]\nname = \"a\"\nkey = \""+shared+"\"\n")
	far := echo(t)
	m := p.manage()
	m.watchdog, m.level = "0", "info"
	m.start()
	secret, _ := hex.DecodeString(shared)
	g := gateway{proof: proof.NewClient(secret)}
	open := func(n int) {
		for range n {
			if err := g.once(t.Context(), far); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(5)
	var out bytes.Buffer
	trace := exec.Command("strace", "-f", "-c", "-U", "name,calls", "-e", "trace=%network,%desc", "-p", strconv.Itoa(m.pid))
	trace.Stderr = &out
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	m.wait("it is traced", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
		return !bytes.Contains(b, []byte("TracerPid:\t0\n"))
	})
	time.Sleep(200 * time.Millisecond) // its other threads
	open(connections)
	time.Sleep(200 * time.Millisecond) // to ask takes calls, too
	m.wait("all have closed", func() bool { return status(t, p).Connections == 0 })
	trace.Process.Signal(syscall.SIGINT)
	trace.Wait()
	calls := 0
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] == "total" || f[0] == "epoll_pwait" {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err == nil {
			calls += n
		}
	}
	t.Logf("%.1f system calls a connection\n%s", float64(calls)/connections, out.String())
	if calls < 10*connections || calls > most*connections {
		t.Errorf("%d system calls for %d connections", calls, connections)
	}
}
