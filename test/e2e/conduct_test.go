// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// rawPort is that of servers which a test plays itself.
const rawPort = 9000

// reset ends a connection the rude way.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// The connection behaves as if there were nobody between host and server.
func TestConduct(t *testing.T) {
	r := start(t, rig.Options{})
	l := listen(t, r.Server, rawPort)

	// pair is a connection as the host and as the server see it.
	pair := func(t *testing.T) (host, server *net.TCPConn) {
		t.Helper()
		before := status(t, r).Connections
		h, err := dial(t, r.Host(), lab.Server4, rawPort)
		must(t, err)
		s, err := l.Accept()
		must(t, err)
		// The converter's answer comes a way after the server has heard of it.
		eventually(t, 5*time.Second, func() error {
			if after := status(t, r).Connections; after.Convert != before.Convert+1 {
				return fmt.Errorf("the agent counted %+v, before %+v", after, before)
			}
			return nil
		})
		t.Cleanup(func() { s.Close() })
		s.SetDeadline(time.Now().Add(20 * time.Second))
		return h.(*net.TCPConn), s.(*net.TCPConn)
	}

	t.Run("half-close", func(t *testing.T) {
		host, server := pair(t)
		host.Write([]byte("request"))
		host.CloseWrite()
		if got, err := io.ReadAll(server); string(got) != "request" || err != nil {
			t.Errorf("the server got %q, %v", got, err)
		}
		server.Write([]byte("answer"))
		server.Close()
		if got, err := io.ReadAll(host); string(got) != "answer" || err != nil {
			t.Errorf("the host got %q, %v", got, err)
		}
	})
	t.Run("server speaks first", func(t *testing.T) {
		host, server := pair(t)
		server.Write([]byte("220 ready"))
		b := make([]byte, 9)
		if _, err := io.ReadFull(host, b); string(b) != "220 ready" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("reset by the host", func(t *testing.T) {
		host, server := pair(t)
		reset(host)
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server saw %v", err)
		}
	})
	t.Run("reset by the server", func(t *testing.T) {
		host, server := pair(t)
		reset(server)
		if _, err := host.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the host saw %v", err)
		}
	})
	t.Run("reset with data under way", func(t *testing.T) {
		host, server := pair(t)
		go server.Write(make([]byte, 10<<20))
		io.ReadFull(host, make([]byte, 1<<20))
		reset(host)
		eventually(t, 5*time.Second, func() error {
			if _, err := server.Write([]byte{0}); err == nil {
				return errors.New("the server was not reset")
			}
			return nil
		})
	})
	t.Run("nothing sent", func(t *testing.T) {
		host, server := pair(t)
		host.Close()
		if got, err := io.ReadAll(server); len(got) != 0 || err != nil {
			t.Errorf("the server got %q, %v", got, err)
		}
	})
	t.Run("empty download", func(t *testing.T) { transfer(t, r.FromHost(lab.Server4), traffic.Download, 0) })
	t.Run("100 at once", func(t *testing.T) {
		c := counted(t, r, func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if rep, err := r.FromHost(lab.Server4).Do(t.Context(), traffic.Echo, traffic.Request{Bytes: 10_000}); err != nil {
						t.Errorf("%v: %v", rep, err)
					}
				})
			}
			wg.Wait()
		})
		if c.Convert != 100 || c.TCPFallback != 0 {
			t.Errorf("the agent counted %+v", c)
		}
	})
}

// With early accept the host hears of a failure by a reset.
func TestUnreachable(t *testing.T) {
	r := start(t, rig.Options{})
	for _, tt := range []struct {
		name string
		addr netip.Addr
		port uint16
	}{
		{"refused, IPv4", lab.Server4, 81},
		{"refused, IPv6", lab.Server6, 81},
		{"no route, IPv4", netip.MustParseAddr("203.0.113.77"), 80},
		{"no route, IPv6", netip.MustParseAddr("2001:db8:dead::1"), 80},
		{"no such host", netip.MustParseAddr("192.0.2.99"), 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			c, err := dial(t, r.Host(), tt.addr, tt.port)
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the host saw %v", err)
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("after %v", d)
			}
		})
	}
}
