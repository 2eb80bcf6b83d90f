// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"braid/transport/proof"
)

// soakTime is for how long TestSoak runs, and soakConnections how many live at a
// time, unless BRAID_SOAK and BRAID_SOAK_CONNECTIONS say otherwise.
const (
	soakTime        = 60 * time.Second
	soakConnections = 200
)

// For a minute, or longer: connections that live for some seconds each, over a
// second subflow that comes and goes, while the configuration is read anew each
// second and successors take over; every byte is checked. In the end nothing is
// left: no predecessor, no descriptor, no memory that grew.
func TestSoak(t *testing.T) {
	length := soakTime
	if text := os.Getenv("BRAID_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	sysctl(t, "net/ipv4/ip_local_port_range", "10240 65535") // as the package has it
	sysctl(t, "net/ipv4/tcp_tw_reuse", "1")
	live := soakConnections
	if text := os.Getenv("BRAID_SOAK_CONNECTIONS"); text != "" {
		var err error
		if live, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlace(t, "metrics = \"\"\nannounce = [\"198.18.0.1\"]\n[[client]]\nname = \"a\"\nkey = \""+shared+shared+"\"\npending = 4096\n")
	far := echo(t)
	ip := func(args string) {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("addr add 127.0.7.7/8 dev lo")
	defer ip("addr del 127.0.7.7/8 dev lo")
	m := p.manage()
	m.start()
	secret, _ := hex.DecodeString(shared + shared)
	g := gateway{proof: proof.NewClient(secret)}
	if err := g.once(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	atRest := m.usage()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var connections, echoed, failed atomic.Int64
	var running sync.WaitGroup
	for range live {
		running.Go(func() {
			for ctx.Err() == nil {
				n, err := g.live(ctx, far)
				connections.Add(1)
				echoed.Add(n)
				if err != nil && failed.Add(1) < 10 {
					t.Errorf("connection: %v", err)
				}
			}
		})
	}
	joined := 0
	for tick := 1; ctx.Err() == nil; tick++ {
		if tick%2 == 0 {
			ip("mptcp endpoint del id 99")
		} else {
			ip("mptcp endpoint add 127.0.7.7 id 99 subflow")
		}
		time.Sleep(time.Second)
		if tick%15 == 0 {
			m.mu.Lock()
			old := m.pid
			m.mu.Unlock()
			m.signal(syscall.SIGUSR2)
			m.wait("it has handed over", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.pid != old })
		} else {
			m.signal(syscall.SIGHUP)
		}
		if tick%15 == 7 {
			for _, c := range status(t, p).Clients {
				joined = max(joined, c.Subflows-c.Open)
			}
			t.Logf("after %v: %+v", time.Duration(tick)*time.Second, m.usage())
		}
	}
	running.Wait()
	exec.Command("ip", "mptcp", "endpoint", "del", "id", "99").Run()
	t.Logf("%d connections, %d bytes echoed, %d failed, at most %d second subflows at a time", connections.Load(), echoed.Load(), failed.Load(), joined)
	if joined == 0 {
		t.Error("no second subflow was ever there")
	}
	m.wait("all have closed", func() bool { return status(t, p).Connections == 0 })
	after := m.usage()
	if after.files > atRest.files+8 || after.memory > 4*atRest.memory+32<<20 {
		t.Errorf("at rest %+v, were %+v", after, atRest)
	}
	m.mu.Lock()
	first := len(m.doneC)
	m.mu.Unlock()
	if first != 1 {
		t.Errorf("%d were started", first)
	}
}

// live keeps a connection busy for some seconds, and tells how many bytes came
// back as they were sent.
func (g *gateway) live(ctx context.Context, server string) (echoed int64, err error) {
	c, err := g.open(ctx, server)
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return 0, err
	}
	defer c.Close()
	end := time.Now().Add(time.Second + rand.N(8*time.Second))
	sent, got := make([]byte, 16<<10), make([]byte, 16<<10)
	for time.Now().Before(end) && ctx.Err() == nil {
		n := 1 + rand.IntN(len(sent))
		for i := range n {
			sent[i] = byte(rand.Uint32())
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(sent[:n]); err != nil {
			return echoed, err
		}
		if _, err := io.ReadFull(c, got[:n]); err != nil {
			return echoed, err
		}
		if !bytes.Equal(sent[:n], got[:n]) {
			return echoed, fmt.Errorf("%d bytes came back as others", n)
		}
		echoed += int64(n)
		time.Sleep(rand.N(200 * time.Millisecond))
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		return echoed, fmt.Errorf("at the end: %d bytes, %w", len(rest), err)
	}
	return echoed, nil
}

// footprint is what the converter takes.
type footprint struct {
	files  int
	memory int // bytes
}

func (m *manager) usage() (u footprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.pid))
	u.files = len(files)
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.pid))
	var size, resident int
	fmt.Sscan(string(b), &size, &resident)
	u.memory = resident * os.Getpagesize()
	return u
}
