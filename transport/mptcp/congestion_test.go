// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What is accepted and dialled towards lines has BBR, and what is towards the
// LAN or servers has not, whatever is the default; the subflows are asked by
// the socket that they are below.
func TestCongestionControl(t *testing.T) {
	c := CongestionControl()
	if c.Missing != nil {
		t.Fatalf("without BBR: %v", c.Missing)
	}
	if c.Near == c.Lines {
		t.Fatalf("%s for all", c.Near)
	}
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	acceptedC := make(chan *Conn, 1)
	accept := func() {
		a, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		acceptedC <- a
	}
	for _, tt := range []struct {
		name                  string
		d                     *Dialer
		near                  bool // the listener
		wantDialled, accepted string
	}{
		{"lines", new(Dialer), false, c.Lines, c.Lines},
		{"servers", &Dialer{Near: true}, false, c.Near, c.Lines},
		{"plain TCP of a LAN", &Dialer{TCP: true}, true, c.Lines, c.Near},
	} {
		if tt.near {
			if err := l.AcceptNear(); err != nil {
				t.Fatal(err)
			}
		}
		go accept()
		far, err := tt.d.Dial(t.Context(), netip.Addr{}, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		near := <-acceptedC
		if got := algorithm(t, far); got != tt.wantDialled {
			t.Errorf("%s: dialled with %s, want %s", tt.name, got, tt.wantDialled)
		}
		if got := algorithm(t, near); got != tt.accepted {
			t.Errorf("%s: accepted with %s, want %s", tt.name, got, tt.accepted)
		}
		far.Close()
		near.Close()
	}
}

func algorithm(t *testing.T, c *Conn) (name string) {
	t.Helper()
	err := c.control(func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
