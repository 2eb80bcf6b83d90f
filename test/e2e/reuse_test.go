// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
)

// A LAN host may use the ports of a connection that the server has just
// closed: the proxy's side of it is in TIME-WAIT for a minute.
func TestPortsAgain(t *testing.T) {
	r := start(t, rig.Options{})
	l := listen(t, r.Server, 8090)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("x"))
			c.Close()
		}
	}()
	var d net.Dialer
	d.SetMultipathTCP(false)
	d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(lab.Host4, 40404))
	for i := range 5 {
		d.Timeout = 5 * time.Second
		began := time.Now()
		c, err := r.Host().Dial(t.Context(), d, "tcp", netip.AddrPortFrom(lab.Server4, 8090).String())
		must(t, err)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if got, err := io.ReadAll(c); string(got) != "x" || err != nil {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
		c.Close()
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("connection %d took %v", i, took)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
