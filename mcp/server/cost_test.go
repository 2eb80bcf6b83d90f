// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"braid/test/alloc"
	"braid/test/netns"
	"braid/transport/convert"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// What is allocated for a connection, from its accept to its end, counted by who
// allocates: what its client does and the server is not the converter's.
func TestAllocations(t *testing.T) {
	const connections, bound = 500, 20 + alloc.Race
	alloc.Profile(t)
	s := start(t)
	l := netns.ListenFar(t, false)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	connect := convert.Request(convert.NewConnect(netip.MustParseAddrPort(l.Addr().String()), convert.KindMPTCP), nil)
	bob := proof.NewClient(secret)
	var d mptcp.Dialer
	talk := func() (answer convert.Message, err error) {
		p, err := bob.Prove(connect)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort(listen), p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		b, err := convert.Receive(c)
		if err == nil {
			err = p.Hear(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		if answer, _, err = convert.Parse(b); len(answer.TLVs) == 0 || answer.TLVs[0].Type() != convert.TypeExtendedTCPHeader {
			return answer, err
		}
		c.Write([]byte("hello"))
		c.CloseWrite()
		_, err = io.Copy(io.Discard, c)
		return answer, err
	}
	if _, err := talk(); err != nil { // the ticket
		t.Fatal(err)
	}
	own := []string{"braid/mcp/server.(*session)", "braid/mcp/server.(*Server).accept", "braid/transport/relay.(*Pair)"}
	before := alloc.By(own...)
	for range connections {
		if _, err := talk(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(5 * time.Second); s.Stats.Open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d are open", s.Stats.Open.Load())
		}
	}
	if n := s.Stats.Relayed.Load(); n != connections {
		t.Errorf("%d are relayed", n)
	}
	each := float64(alloc.By(own...)-before) / connections
	t.Logf("%.1f allocations a connection", each)
	if each > bound {
		t.Errorf("%.1f allocations a connection, %d are the most", each, bound)
	}
}
