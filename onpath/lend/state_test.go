// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"braid/onpath/segment"
)

// A table goes on with what another one knew: what has joined, joins and ends as
// ever, and an address is announced that is asked for. A join that was not answered
// yet is unknown to it.
func TestRestore(t *testing.T) {
	old := newTable(10, lent)
	c := old.See(start, packet(client4, server4, segment.ACK, 1001, 5001, 0, times, capable(20))).Connection
	second := Flow{client6, netip.AddrPortFrom(lent.Addr.Addr(), 443)}
	third := Flow{netip.AddrPortFrom(client6.Addr(), 40001), second.Server}
	fourth := Flow{netip.AddrPortFrom(client6.Addr(), 40002), second.Server}
	for _, f := range []Flow{second, third, fourth} {
		old.See(start, packet(f.Client, f.Server, segment.SYN, 1, 0, 0, join(keyS.Token())))
		if f != fourth {
			old.See(start, packet(f.Client, f.Server, segment.ACK, 2, 1, 0, joined))
		}
	}
	text, err := c.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}

	tb := newTable(10, lent)
	got, err := tb.Restore(string(text), func(f Flow) bool { return f != third })
	if err != nil || got == nil {
		t.Fatalf("%v, %v", got, err)
	}
	if got.First != c.First || got.Token != c.Token || got.Pending() || !slices.Equal(got.Flows(), []Flow{c.First, second}) {
		t.Errorf("%+v, want %+v", got, c)
	}
	if again, err := tb.Restore(string(text), func(Flow) bool { return true }); again != nil || err != nil || tb.Len() != 1 {
		t.Errorf("known already: %+v, %v", again, err)
	}
	down := packet(server4, client4, segment.ACK, 5001, 2001, 1400, times, dss)
	if s := tb.See(start, down); s.What != Needless {
		t.Errorf("unasked: %+v", s)
	}
	tb.Again(got, lent)
	old.Again(c, lent)
	now := start.Add(Interval)
	s, want := tb.See(now, down), old.See(now, down)
	if s.What != Told || string(s.Packet) != string(want.Packet) {
		t.Errorf("announced %x, want %x", s.Packet, want.Packet)
	}
	if s := tb.See(now, packet(third.Client, third.Server, segment.SYN, 1, 0, 0, join(keyS.Token()))); s.What != Joined || s.Connection != got {
		t.Errorf("join: %+v", s)
	}
	tb.Forget(got)
	if len(tb.flows)+len(tb.tokens)+len(tb.clients) != 0 {
		t.Errorf("left over: %+v", tb)
	}
	if none, err := tb.Restore(string(text), func(Flow) bool { return false }); none != nil || err != nil || tb.Len() != 0 {
		t.Errorf("it has ended: %+v, %v", none, err)
	}
}

func FuzzRestore(f *testing.F) {
	f.Add("0102030405060708 f1f2f3f4f5f6f7f8 1.2.3.4:5>6.7.8.9:10 1.2.3.4:5>6.7.8.9:10 [2001:db8::1]:5>[2001:db8::2]:10")
	f.Add("0102030405060708 f1f2 1.2.3.4:5>6.7.8.9:10")
	f.Fuzz(func(t *testing.T, text string) {
		tb := newTable(4)
		c, err := tb.Restore(text, func(Flow) bool { return true })
		if c == nil {
			if tb.Len() != 0 {
				t.Errorf("%q: something is left, %v", text, err)
			}
			return
		}
		again, _ := c.AppendText(nil)
		other := newTable(4)
		same, err := other.Restore(string(again), func(Flow) bool { return true })
		if err != nil || same == nil || same.First != c.First || !slices.Equal(same.flows, c.flows) || same.client != c.client || same.server != c.server {
			t.Errorf("%q becomes %q: %v", text, again, err)
		}
	})
}

// What a connection costs that is remembered, with an address that is announced
// and one subflow more.
func TestMemory(t *testing.T) {
	const many, most = 16384, 1000 // bytes
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	tb := newTable(8*many, lent)
	for i := range many {
		first := Flow{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 40000), server4}
		third := packet(first.Client, first.Server, segment.ACK, 1, 1, 0, capable(20))
		binary.BigEndian.PutUint32(third[len(third)-4:], uint32(i)) // of the server's key
		c := tb.See(start, third).Connection
		second := Flow{netip.AddrPortFrom(client6.Addr(), uint16(1024+i)), netip.AddrPortFrom(lent.Addr.Addr(), 443)}
		if s := tb.See(start, packet(second.Client, second.Server, segment.SYN, 1, 0, 0, join(c.Token))); s.What != Joined {
			t.Fatalf("connection %d: %+v", i, s)
		}
	}
	each := (heap() - before) / many
	t.Logf("%d bytes", each)
	if tb.Len() != many || each > most {
		t.Errorf("%d connections of %d bytes", tb.Len(), each)
	}
}
