// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// option reads one of a connection's.
func option(t *testing.T, c *Conn, level, opt int) (v int) {
	t.Helper()
	if err := c.control(func(fd int) (err error) {
		v, err = unix.GetsockoptInt(fd, level, opt)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return v
}

// Package net's keepalive of 15 s is nobody's: who is asked to keeps the way open
// in time for carriers' NATs, others send none.
func TestKeepMapped(t *testing.T) {
	at, acceptedC := echo(t, "127.0.0.1:0")
	for _, tcp := range []bool{false, true} {
		d := Dialer{TCP: tcp}
		c, err := d.Dial(t.Context(), netip.Addr{}, at, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		roundTrip(t, c, "hello")
		if on := option(t, <-acceptedC, unix.SOL_SOCKET, unix.SO_KEEPALIVE); on != 0 {
			t.Error("who accepts sends keepalives")
		}
		if on := option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE); on != 0 {
			t.Error("who dials sends keepalives unasked")
		}
		if err := c.KeepMapped(true); err != nil {
			t.Fatal(err)
		}
		idle := time.Duration(option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)) * time.Second
		ends := time.Duration(option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)*option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)) * time.Second
		if on := option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE); on == 0 || idle >= 300*time.Second || idle < 240*time.Second || ends <= 300*time.Second {
			t.Errorf("TCP %v: keepalive %d after %v, which end it within %v", tcp, on, idle, ends)
		}
		for _, on := range []bool{false, true} {
			if err := c.KeepMapped(on); err != nil || (option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0) != on {
				t.Errorf("KeepMapped(%v): %v", on, err)
			}
		}
	}
}

func TestSetUserTimeout(t *testing.T) {
	at, _ := echo(t, "127.0.0.1:0")
	d := Dialer{TCP: true}
	c, err := d.Dial(t.Context(), netip.Addr{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []time.Duration{2*time.Hour + 4*time.Minute, 0} {
		if err := c.SetUserTimeout(want); err != nil {
			t.Fatal(err)
		}
		if got := option(t, c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != int(want.Milliseconds()) {
			t.Errorf("%d ms, want %v", got, want)
		}
	}
}

// What a peer that was away for long has missed is sent again within the time that
// is set, however often that has been in vain.
func TestRetransmitMax(t *testing.T) {
	at, _ := echo(t, "127.0.0.1:0")
	c, err := (&Dialer{TCP: true}).Dial(t.Context(), netip.Addr{}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := option(t, c, unix.IPPROTO_TCP, tcpRTOMaxMS); got != int(RetransmitMax.Milliseconds()) {
		t.Errorf("by default %d ms", got)
	}
	for _, d := range []time.Duration{3 * time.Second, RetransmitMax} {
		if err := c.SetRetransmitMax(d); err != nil {
			t.Fatal(err)
		}
		if got := option(t, c, unix.IPPROTO_TCP, tcpRTOMaxMS); got != int(d.Milliseconds()) {
			t.Errorf("%d ms after %v was set", got, d)
		}
	}
}
