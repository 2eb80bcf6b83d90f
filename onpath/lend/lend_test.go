// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"

	"braid/onpath/checksum"
	"braid/onpath/segment"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The tokens are those of sha256sum.
func TestToken(t *testing.T) {
	for key, want := range map[string]uint32{
		"0000000000000000": 0xaf5570f5,
		"0102030405060708": 0x66840dda,
	} {
		if got := Key(unhex(t, key)).Token(); got != want {
			t.Errorf("token of %s is %08x, want %08x", key, got, want)
		}
	}
}

var (
	keyC = Key{1, 2, 3, 4, 5, 6, 7, 8}
	keyS = Key{0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8}

	client4 = netip.MustParseAddrPort("198.51.100.2:40000")
	server4 = netip.MustParseAddrPort("192.0.2.80:443")
	client6 = netip.MustParseAddrPort("[2001:db8:f::2]:40000")
	server6 = netip.MustParseAddrPort("[2001:db8:80::80]:443")
	lent    = Address{200, netip.MustParseAddrPort("[2001:db8:64::c000:250]:0")}
)

// Byte for byte; the HMACs are those of openssl dgst -sha256 -mac hmac.
func TestOption(t *testing.T) {
	for _, v := range []struct{ id, address, want string }{
		{"c8", "[2001:db8:64::c000:250]:0", "1e1c30c820010db80064000000000000c00002502bc86a9621518093"},
		{"c8", "[2001:db8:64::c000:250]:443", "1e1e30c820010db80064000000000000c000025001bb263676046492d913"},
		{"c9", "192.168.1.1:40001", "1e1230c9c0a801019c414a342030ca65412c"},
		{"ff", "192.0.2.1:0", "1e1030ffc0000201b32467a67af74844"},
	} {
		a := Address{unhex(t, v.id)[0], netip.MustParseAddrPort(v.address)}
		if got := hex.EncodeToString(a.option(keyS, keyC)); got != v.want {
			t.Errorf("%s: %s, want %s", v.address, got, v.want)
		}
	}
}

func capable(n int) []byte {
	o := append([]byte{30, byte(n), 0x01, 0x01}, keyC[:]...)
	o = append(o, keyS[:]...)
	return append(o, make([]byte, n-20)...)
}

func join(token uint32) []byte {
	o := append([]byte{30, 12, 0x10, 5}, binary.BigEndian.AppendUint32(nil, token)...)
	return append(o, 1, 2, 3, 4)
}

// joined is in the third packet of a join.
var joined = append([]byte{30, 24, 0x10, 5}, make([]byte, 20)...)

func echo(id byte) []byte { return append([]byte{30, 20, 0x31, id}, make([]byte, 16)...) }

var (
	dss   = []byte{30, 8, 0x20, 0x01, 0, 0, 0, 1}
	times = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
)

// packet is one of a connection, with more bytes of payload than are there.
func packet(src, dst netip.AddrPort, flags byte, seq, ack uint32, payload int, options ...[]byte) []byte {
	s := segment.Segment{Src: src, Dst: dst, Seq: seq, Ack: ack, Flags: flags, Window: 502, Options: slices.Concat(options...)}
	b := s.Build()
	if src.Addr().Is6() {
		binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+uint16(payload))
	} else {
		binary.BigEndian.PutUint16(b[2:], binary.BigEndian.Uint16(b[2:])+uint16(payload))
	}
	return b
}

func newTable(size int, addresses ...Address) *Table {
	return NewTable(size, func(*Connection) []Address { return addresses })
}

var start = time.Unix(1e9, 0)

// A connection from its handshake to its end, in both families, with third
// packets of all forms.
func TestConnection(t *testing.T) {
	for _, v := range []struct {
		name           string
		client, server netip.AddrPort
		third          []byte
	}{
		{"IPv4", client4, server4, packet(client4, server4, segment.ACK, 1001, 5001, 0, times, capable(20))},
		{"IPv4, data", client4, server4, packet(client4, server4, segment.ACK, 1001, 5001, 1000, capable(22), times[:2], times)},
		{"IPv4, data and checksum", client4, server4, packet(client4, server4, segment.ACK, 1001, 5001, 1000, capable(24))},
		{"IPv6", client6, server6, packet(client6, server6, segment.ACK, 1001, 5001, 0, times, capable(20))},
	} {
		t.Run(v.name, func(t *testing.T) {
			tb := newTable(10, lent)
			flow := Flow{v.client, v.server}
			s := tb.See(start, v.third)
			if s.What != Opened || s.Flow != flow || s.Connection.Token != keyS.Token() || s.Connection.First != flow {
				t.Fatalf("third packet: %+v", s)
			}
			if again := tb.See(start, v.third); again.What != Nothing {
				t.Errorf("third packet again: %+v", again)
			}
			down := packet(v.server, v.client, segment.ACK, 5001, 2001, 1400, times, dss)
			if s := tb.See(start, packet(v.server, v.client, segment.ACK, 5001, 2001, 1400, times)); s.What != Nothing {
				t.Errorf("without a DSS: %+v", s)
			}
			now := start
			for try, step := range []uint32{16 << 10, 64 << 10, 256 << 10, 16 << 10} {
				s := tb.See(now, down)
				if s.What != Told || s.Flow != flow || s.ID != 200 {
					t.Fatalf("try %d: %+v", try, s)
				}
				got, ok := segment.Parse(s.Packet)
				if !ok || got.Src != v.server || got.Dst != v.client || got.Seq != 5001+1400+step || got.Ack != 2000 ||
					got.Flags != segment.ACK || got.Window != 502 || got.Length != 0 {
					t.Errorf("try %d: %+v", try, got)
				}
				if !bytes.Contains(s.Packet, lent.option(keyS, keyC)) {
					t.Errorf("try %d: %x has no announcement", try, s.Packet)
				}
				checkSums(t, s.Packet)
				if s := tb.See(now.Add(Interval-1), down); s.What != Nothing {
					t.Errorf("try %d, too early: %+v", try, s)
				}
				now = now.Add(Interval)
			}
			if s := tb.See(now, packet(v.client, v.server, segment.ACK, 2001, 7000, 0, echo(7))); s.What != Nothing {
				t.Errorf("the echo of another's: %+v", s)
			}
			if s := tb.See(now, packet(v.client, v.server, segment.ACK, 2001, 7000, 0, echo(200))); s.What != Heard || s.ID != 200 || s.Connection.Pending() {
				t.Errorf("echo: %+v", s)
			}
			if s := tb.See(now, down); s.What != Needless {
				t.Errorf("heard already: %+v", s)
			}
			second := Flow{client6, netip.AddrPortFrom(lent.Addr.Addr(), 443)}
			if s := tb.See(now, packet(second.Client, second.Server, segment.SYN, 1, 0, 0, join(keyS.Token()))); s.What != Joined || s.Flow != second {
				t.Errorf("join: %+v", s)
			}
			if s := tb.See(now, packet(second.Client, second.Server, segment.SYN, 1, 0, 0, join(keyS.Token()))); s.What != Nothing {
				t.Errorf("join again: %+v", s)
			}
			if s := tb.See(now, packet(second.Client, second.Server, segment.SYN, 1, 0, 0, join(keyC.Token()))); s.What != Nothing {
				t.Errorf("join of nobody's: %+v", s)
			}
			if s.Connection.Established(second) {
				t.Error("established before it is answered")
			}
			answered := packet(second.Client, second.Server, segment.ACK, 2, 1, 0, joined)
			if s := tb.See(now, answered); s.What != Established || s.Flow != second || !s.Connection.Established(second) {
				t.Errorf("third packet of the join: %+v", s)
			}
			if s := tb.See(now, answered); s.What != Nothing {
				t.Errorf("third packet of the join again: %+v", s)
			}
			if s := tb.See(now, packet(client6, second.Client, segment.ACK, 2, 1, 0, joined)); s.What != Nothing {
				t.Errorf("third packet of a join that was not seen: %+v", s)
			}
			// The line returns, and the connection is told on either subflow.
			if flows := tb.Again(s.Connection, lent); !slices.Equal(flows, []Flow{flow, second}) {
				t.Errorf("shown again: %v", flows)
			}
			now = now.Add(Interval)
			if s := tb.See(now, packet(second.Server, second.Client, segment.ACK, 9001, 3001, 100, dss)); s.What != Told || s.Flow != second {
				t.Errorf("on the other subflow: %+v", s)
			}
			if s := tb.See(now, packet(v.server, v.client, segment.FIN|segment.ACK, 8000, 2001, 0)); s.What != Left || s.Flow != flow {
				t.Errorf("end of the first: %+v", s)
			}
			if s := tb.See(now, packet(second.Client, second.Server, segment.RST, 8000, 0, 0)); s.What != Closed || tb.Len() != 0 {
				t.Errorf("end of the last: %+v, %d left", s, tb.Len())
			}
			if s := tb.See(now.Add(time.Hour), down); s.What != Needless || s.Flow != flow || s.Connection != nil {
				t.Errorf("of one that is not known: %+v", s)
			}
			if len(tb.flows)+len(tb.clients) != 0 || tb.Again(s.Connection, lent) != nil {
				t.Errorf("left over: %+v", tb)
			}
		})
	}
}

func checkSums(t *testing.T, b []byte) {
	t.Helper()
	addrs, tcp := b[8:40], b[40:]
	if b[0]>>4 == 4 {
		addrs, tcp = b[12:20], b[20:]
		if checksum.Of(checksum.Sum(b[:20])) != 0 {
			t.Errorf("%x: IP checksum", b)
		}
	}
	if sum := checksum.Of(checksum.Sum(addrs) + checksum.Pseudo(len(tcp), 6) + checksum.Sum(tcp)); sum != 0 {
		t.Errorf("%x: TCP checksum is off by %#x", b, sum)
	}
}

// A client that never answers is left alone after a while, and each of several
// addresses has its turn.
func TestTries(t *testing.T) {
	other := Address{201, netip.MustParseAddrPort("192.168.1.1:40001")}
	tb := newTable(10, lent, other)
	c := tb.See(start, packet(client4, server4, segment.ACK, 1, 1, 0, capable(20))).Connection
	told := make(map[uint8]int)
	var order []uint8
	for i := range 50 {
		s := tb.See(start.Add(time.Duration(i)*Interval), packet(server4, client4, segment.ACK, 1, 1, 0, dss))
		if s.What == Told {
			told[s.ID]++
			order = append(order, s.ID)
		}
	}
	if told[200] != tries || told[201] != tries || !slices.Equal(order[:4], []uint8{200, 201, 200, 201}) || c.Pending() {
		t.Errorf("told %v in the order %v, pending %v", told, order, c.Pending())
	}
	tb.Withdraw(c, 201)
	if tb.Again(c, lent); !c.Awaits(200) || c.Awaits(201) {
		t.Error("it is not to hear of it again")
	}
	// Who asks often does not have it announced more often, whatever is lost.
	n := 0
	for i := range 50 {
		if s := tb.See(start.Add(time.Hour+time.Duration(i)*Interval), packet(server4, client4, segment.ACK, 1, 1, 0, dss)); s.What == Told && s.ID == 200 {
			n++
		}
		if c.Awaits(200) {
			tb.Again(c, lent)
		}
	}
	if n != tries || c.Pending() {
		t.Errorf("told %d times more", n)
	}
}

// A port is used again, a token is forged, a client opens too many, and all
// clients together do.
func TestBounds(t *testing.T) {
	third := func(client, server netip.AddrPort, key byte) []byte {
		b := packet(client, server, segment.ACK, 1, 1, 0, capable(20))
		b[len(b)-1] = key
		return b
	}
	tb := newTable(16)
	first := tb.See(start, third(client4, server4, 1)).Connection
	if s := tb.See(start, third(client4, server4, 2)); s.What != Opened || tb.Len() != 1 || s.Connection == first {
		t.Errorf("port used again: %+v", s)
	}
	if s := tb.See(start, third(client6, server6, 2)); s.What != Nothing || tb.Len() != 1 {
		t.Errorf("another's key: %+v", s)
	}
	for i := range 100 {
		tb.See(start, third(netip.AddrPortFrom(client4.Addr(), uint16(i+1)), server4, byte(i+3)))
	}
	if tb.Len() != 2 || len(tb.flows) != 2 || len(tb.clients) != 1 {
		t.Errorf("one client has %d of 16", tb.Len())
	}
	for i := range 100 {
		tb.See(start, third(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1), server4, byte(i+110)))
	}
	if tb.Len() != 16 || len(tb.flows) != 16 || len(tb.clients) > 16 {
		t.Errorf("%d connections of %d clients, %d flows", tb.Len(), len(tb.clients), len(tb.flows))
	}
	var all []*Connection
	for c := range tb.All() {
		all = append(all, c)
	}
	for _, c := range all {
		tb.Forget(c)
	}
	if tb.Len()+len(tb.flows)+len(tb.clients) != 0 {
		t.Error("something is left")
	}
}

func FuzzSee(f *testing.F) {
	f.Add(packet(client4, server4, segment.ACK, 1001, 5001, 0, times, capable(20)), packet(server4, client4, segment.ACK, 5001, 2001, 1400, times, dss))
	f.Add(packet(client6, server6, segment.ACK, 1001, 5001, 9, capable(24)), packet(client6, server6, segment.ACK, 2001, 7000, 0, echo(200)))
	f.Add(packet(client4, server4, segment.ACK, 1001, 5001, 0, capable(20)), packet(client6, server6, segment.SYN, 1, 0, 0, join(keyS.Token())))
	f.Add(packet(client4, server4, segment.SYN, 1, 0, 0, join(keyS.Token())), packet(client4, server4, segment.ACK, 2, 1, 0, joined))
	f.Add(packet(client4, server4, segment.ACK, 1001, 5001, 0, capable(20)), packet(client4, server4, segment.RST, 1, 0, 0))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tb := newTable(4, lent)
		// A good connection beside those of the fuzzer's.
		good := packet(client6, server4to6, segment.ACK, 1, 1, 0, capable(22))
		for i, p := range [][]byte{a, b, good, a, b, packet(server4to6, client6, segment.ACK, 1, 1, 0, dss), b, a} {
			s := tb.See(start.Add(time.Duration(i)*Interval), p)
			if (s.What == Nothing || s.What == Needless && s.Connection == nil) != (s.Connection == nil) || (s.What == Told) != (s.Packet != nil) {
				t.Fatalf("%+v", s)
			}
			if s.What == Told {
				got, ok := segment.Parse(s.Packet)
				if !ok || got.Flags != segment.ACK || got.Dst != s.Flow.Client || got.Src != s.Flow.Server {
					t.Fatalf("%+v: %x", got, s.Packet)
				}
				checkSums(t, s.Packet)
			}
			if tb.Len() > 4 || len(tb.clients) > tb.Len() || len(tb.flows) < tb.Len() || len(tb.flows) > maxFlows*tb.Len() {
				t.Fatalf("%d connections, %d clients, %d flows", tb.Len(), len(tb.clients), len(tb.flows))
			}
		}
	})
}

var server4to6 = netip.MustParseAddrPort("[2001:db8:80::81]:443")

// A flow has ended if somebody says so, or knew it and does not know it any more.
func TestLearn(t *testing.T) {
	for _, v := range []struct {
		knows []Knowledge
		ended bool
	}{
		{[]Knowledge{Unknown, Unknown}, false},
		{[]Knowledge{Open, Open}, false},
		{[]Knowledge{Ended}, true},
		{[]Knowledge{Unknown, Open, Unknown}, true},
	} {
		tb := newTable(1)
		c := tb.See(start, packet(client4, server4, segment.ACK, 1, 1, 0, capable(20))).Connection
		ended := false
		for _, k := range v.knows {
			ended = tb.Learn(c, c.First, k)
		}
		if ended != v.ended || tb.Learn(c, Flow{client6, server6}, Ended) {
			t.Errorf("%v: ended %v", v.knows, ended)
		}
	}
}
