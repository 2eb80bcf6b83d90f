// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package icmp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}

func open(t *testing.T, source netip.Addr, id uint16) *Conn {
	t.Helper()
	c, err := Open(t.Context(), "lo", source, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// receive waits for an answer, or not for long.
func receive(c *Conn, wait time.Duration) (uint16, netip.Addr, error) {
	c.conn.SetReadDeadline(time.Now().Add(wait))
	return c.Receive()
}

func TestEcho(t *testing.T) {
	for _, peer := range loopbacks {
		t.Run(peer.String(), func(t *testing.T) {
			mine, others := open(t, peer, 7), open(t, peer, 8)
			for seq := range uint16(3) {
				if err := others.Send(netip.AddrPortFrom(peer, 0), 100+seq); err != nil {
					t.Fatal(err)
				}
				if err := mine.Send(netip.AddrPortFrom(peer, 0), 65534+seq); err != nil { // 0 follows 65535
					t.Fatal(err)
				}
			}
			for seq := range uint16(3) {
				got, from, err := receive(mine, 5*time.Second)
				if err != nil || got != 65534+seq || from != peer {
					t.Errorf("answer %d from %v, %v, want %d", got, from, err, 65534+seq)
				}
			}
			if got, _, err := receive(mine, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("an answer to another socket came in: %d, %v", got, err)
			}
		})
	}
}

// The kernel delivers nothing but echo replies: not the error that answers
// here, nor the request itself, which comes over the loopback too.
func TestFilter(t *testing.T) {
	if out, err := exec.Command("nft", "table inet t { chain i { type filter hook input priority 0; icmp type echo-request reject; icmpv6 type echo-request reject; }; }").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("nft", "delete table inet t").Run()
	for _, peer := range loopbacks {
		c := open(t, peer, 9)
		if err := c.Send(netip.AddrPortFrom(peer, 0), 1); err != nil {
			t.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		var b [256]byte
		if n, from, err := c.conn.ReadFrom(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v: read %x from %v, %v", peer, b[:n], from, err)
		}
	}
}

func TestClose(t *testing.T) {
	for _, peer := range loopbacks {
		c := open(t, peer, 7)
		failedC := make(chan error)
		go func() {
			_, _, err := c.Receive()
			failedC <- err
		}()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failedC; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: Receive ends with %v", peer, err)
		}
		if err := c.Send(netip.AddrPortFrom(peer, 0), 1); !errors.Is(err, net.ErrClosed) || !strings.HasPrefix(err.Error(), "probing "+peer.String()+" over lo: ") {
			t.Errorf("%v: Send ends with %v", peer, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct{ name, device, source, want string }{
		{"no device", "none", "127.0.0.1", "opening probe socket on none: "},
		{"no device, IPv6", "none", "::1", "opening probe socket on none: "},
		{"no address", "lo", "192.0.2.1", "cannot assign requested address"},
		{"no address, IPv6", "lo", "2001:db8::1", "cannot assign requested address"},
	}
	for _, tt := range tests {
		if _, err := Open(t.Context(), tt.device, netip.MustParseAddr(tt.source), 1); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// A message with its checksum in place sums up to zero.
