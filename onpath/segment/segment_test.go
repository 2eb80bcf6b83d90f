// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden are packets, whose checksums were computed apart from this program,
// byte for byte.
var golden = []struct {
	name    string
	segment Segment
	packet  string
}{
	{"IPv4 reset", Segment{Src: netip.MustParseAddrPort("192.0.2.80:443"), Dst: netip.MustParseAddrPort("198.51.100.2:40000"),
		Seq: 1, Ack: 2, Flags: RST | ACK, Options: []byte{}},
		"450000280000400040064e4ac0000250c633640201bb9c40000000010000000250140000254c0000"},
	{"IPv6 with options", Segment{Src: netip.MustParseAddrPort("[2001:db8::1]:1"), Dst: netip.MustParseAddrPort("[2001:db8::2]:65535"),
		Seq: 0xfffffffe, Ack: 0x80000000, Flags: ACK, Window: 502, Options: []byte{30, 3, 0x31, 1}},
		"60000000001806" + "40" + "20010db8000000000000000000000001" + "20010db8000000000000000000000002" +
			"0001fffffffffffe80000000601001f6736100001e033101"},
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		packet := unhex(t, g.packet)
		if got := g.segment.Build(); !bytes.Equal(got, packet) {
			t.Errorf("%s: %x, want %x", g.name, got, packet)
		}
		got, ok := Parse(packet)
		if !ok || got.Src != g.segment.Src || got.Dst != g.segment.Dst || got.Seq != g.segment.Seq || got.Ack != g.segment.Ack ||
			got.Flags != g.segment.Flags || got.Window != g.segment.Window || !bytes.Equal(got.Options, g.segment.Options) || got.Length != 0 {
			t.Errorf("%s: %+v", g.name, got)
		}
		for n := range packet {
			if _, ok := Parse(packet[:n]); ok {
				t.Errorf("%s: %d bytes are enough", g.name, n)
			}
		}
		wrong := bytes.Clone(packet)
		wrong[len(wrong)-len(g.segment.Options)-4] ^= 0xff // of the checksum
		Sign(wrong)
		if !bytes.Equal(wrong, packet) {
			t.Errorf("%s signed: %x", g.name, wrong)
		}
	}
}

func TestEnd(t *testing.T) {
	for _, v := range []struct {
		s    Segment
		want uint32
	}{{Segment{Seq: 10, Length: 5}, 15}, {Segment{Seq: 10, Flags: SYN}, 11}, {Segment{Seq: 0xffffffff, Length: 1, Flags: FIN | ACK}, 1}} {
		if got := v.s.End(); got != v.want {
			t.Errorf("%+v ends at %d, want %d", v.s, got, v.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, g := range golden {
		f.Add(unhex(f, g.packet))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := Parse(b)
		Sign(bytes.Clone(b))
		if !ok {
			return
		}
		s.Length = 0
		again, ok := Parse(s.Build())
		if !ok || again.Src != s.Src || again.Seq != s.Seq || again.Flags != s.Flags || len(again.Options) != (len(s.Options)+3)&^3 {
			t.Fatalf("%+v, then %+v", s, again)
		}
	})
}
