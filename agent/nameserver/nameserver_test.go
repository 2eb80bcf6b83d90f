// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nameserver

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// serve answers each question with its own bytes and the bit of responses; the
// first few get lost.
func serve(t *testing.T, addr string, lost int) {
	t.Helper()
	c, err := net.ListenPacket("udp", addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		var b [512]byte
		for {
			n, from, err := c.ReadFrom(b[:])
			if err != nil {
				return
			}
			if lost--; lost >= 0 {
				continue
			}
			b[2] |= 0x80
			c.WriteTo(b[:n], from)
		}
	}()
}

// One server answers, one answers the second time, and two do not: nobody is at
// the one, and the other only swallows what it gets.
func TestSilent(t *testing.T) {
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"} {
		if out, err := exec.Command("ip", "addr", "add", a+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	serve(t, "192.0.2.1", 0)
	serve(t, "192.0.2.2", 1)
	serve(t, "192.0.2.4", 1<<20)
	var targets []Target
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"} {
		targets = append(targets, Target{Server: netip.MustParseAddr(a), Device: "lo", Source: netip.MustParseAddr("127.0.0.1")})
	}
	m := NewMonitor()
	m.SetTargets(targets)
	ctx, cancel := context.WithCancel(t.Context())
	doneC := make(chan error)
	go func() { doneC <- m.Run(ctx) }()
	for timeout := time.After(10 * time.Second); len(m.Silent()) < 2; {
		select {
		case <-m.Changed():
		case <-timeout:
			t.Fatalf("silent: %v", m.Silent())
		}
	}
	if s := m.Silent(); !s[targets[2]] || !s[targets[3]] || len(s) != 2 {
		t.Errorf("silent: %v", s)
	}
	m.SetTargets(targets[:2])
	for end := time.Now().Add(10 * time.Second); len(m.Silent()) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if s := m.Silent(); len(s) != 0 {
		t.Errorf("no targets any more: %v", s)
	}
	cancel()
	if err := <-doneC; err != nil {
		t.Error(err)
	}
}
