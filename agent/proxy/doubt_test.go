// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"braid/agent/path"
)

// A way by which a converter is not reached costs one connection, and no more
// until the converter has been asked: one that drops everything, one on which
// somebody else answers, and one on which somebody takes all and says nothing.
func TestDoubtfulWay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		proven bool
		on     func(t *testing.T, at netip.AddrPort)
	}{
		{"dropped", true, func(t *testing.T, at netip.AddrPort) { lose(t, home, at) }},
		{"portal", true, func(t *testing.T, at netip.AddrPort) { redirect(t, at, "HTTP/1.1 302 Found\r\n\r\n") }},
		{"unproven, and somebody says nothing", false, func(t *testing.T, at netip.AddrPort) { redirect(t, at, "") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			c, _ := converter(t, "mcp", forward(0))
			if !tt.proven {
				c.Answers = nil
			}
			h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
			h.SetNetwork(path.New(append(h.Network().Legs, path.Leg{WAN: "lte", Source: lte}), h.Network().Converters, h.Network().Fallback))
			tt.on(t, c.Addrs[0])
			if got, err := h.ask(request); err != nil || !bytes.Equal(got, request) {
				t.Fatalf("%q, %v", got, err)
			}
			if !tt.proven {
				return // until it has been asked, which nobody does here
			}
			began := time.Now()
			for range 5 {
				if got, err := h.ask(request); err != nil || !bytes.Equal(got, request) {
					t.Errorf("%q, %v", got, err)
				}
			}
			if took := time.Since(began); took > patience {
				t.Errorf("five more took %v", took)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if !slices.Equal(h.suspects, []string{"fibre"}) {
				t.Errorf("suspected: %v, for %v", h.suspects, h.doubts)
			}
			if from, _ := s.served(); len(from) != 6 || slices.ContainsFunc(from, func(a netip.Addr) bool { return a != abroad }) {
				t.Errorf("the server has served %v", from)
			}
		})
	}
}

// That a server is reached straight while the converter has not even taken the
// connection is a sign that it has gone.
func TestConverterGone(t *testing.T) {
	s := serve(t)
	c, _ := converter(t, "mcp", forward(0))
	h := newHouse(t, houseOptions{dest: s.at, converters: []path.Converter{c}})
	lose(t, home, c.Addrs[0])
	if got, err := h.ask(request); err != nil || !bytes.Equal(got, request) {
		t.Fatalf("%q, %v", got, err)
	}
	if from, _ := s.served(); !slices.Equal(from, []netip.Addr{home}) || !h.doubted(errOvertaken) {
		t.Errorf("the server has served %v, doubts: %v", from, h.doubts)
	}
}

// redirect has somebody else answer what home sends to an address, with a text
// or, without one, by silence.
func redirect(t *testing.T, at netip.AddrPort, text string) {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if text != "" {
				io.WriteString(c, text)
				c.Close()
				continue
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	rules := fmt.Sprintf("table ip r { chain o { type nat hook output priority -100; ip saddr %v tcp dport %d redirect to :%d; }; }",
		home, at.Port(), netip.MustParseAddrPort(l.Addr().String()).Port())
	if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("nft", "delete table ip r").Run() })
}

// A host that gives up while its server is silent has said nothing of the server, nor
// of us, and nobody is asked in its name any more.
func TestHostGone(t *testing.T) {
	s := serve(t)
	h := newHouse(t, houseOptions{dest: s.at})
	if _, err := h.ask(request); err != nil { // lines are well
		t.Fatal(err)
	}
	lose(t, home, s.at)
	c, err := net.Dial("tcp", h.lan)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	h.idle()
	if dests := h.Unreached(); len(dests) > 0 {
		t.Errorf("%v are not reached", dests)
	}
	if n := h.Dialer().Stats.Retried.Load(); n > 0 {
		t.Errorf("dialled %d times more", n)
	}
	h.failing.mu.Lock()
	defer h.failing.mu.Unlock()
	if h.failing.last != nil {
		t.Errorf("failed: %v", h.failing.last)
	}
}
