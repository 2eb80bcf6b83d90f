// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// Packets are shown from their IP header on, up to a length, those that match
// and no others.
func TestServe(t *testing.T) {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`
		table inet t {
			chain output {
				type filter hook output priority 0
				udp dport 7777 log group 77 snaplen 60
			}
		}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := Open(77, 50)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(77, 50); !errors.Is(err, unix.EPERM) {
		t.Errorf("opened twice: %v", err)
	}
	gotC, doneC := make(chan []byte, 10), make(chan error)
	go func() {
		doneC <- l.Serve(func(p []byte) { gotC <- append([]byte(nil), p...) })
	}()
	payload := strings.Repeat("braid", 20)
	for _, to := range []string{"127.0.0.1:7776", "127.0.0.1:7777", "[::1]:7777"} {
		c, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(payload))
		c.Close()
	}
	for _, want := range []struct {
		version byte
		header  int
	}{{4, 28}, {6, 48}} {
		select {
		case p := <-gotC:
			if len(p) != 50 || p[0]>>4 != want.version || string(p[want.header:]) != payload[:50-want.header] {
				t.Errorf("%d bytes: %x", len(p), p)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing is shown")
		}
	}
	if len(gotC) != 0 {
		t.Errorf("shown: %x", <-gotC)
	}
	if err := errors.Join(l.Close(), <-doneC, l.Close()); err != nil {
		t.Error(err)
	}
}

// A datagram that does not hold what it says holds nothing.
func FuzzEach(f *testing.F) {
	f.Add([]byte{28, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 5, 8, 0, 9, 0, 'a', 'b', 'c', 'd'})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		each(b, func(p []byte) { n += len(p) })
		if n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	})
}
