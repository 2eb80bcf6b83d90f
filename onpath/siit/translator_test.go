// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/onpath/siit"
)

var (
	prefix  = netip.MustParsePrefix("2001:db8:64::/96")
	ours4   = netip.MustParseAddr("192.0.0.1")
	ours6   = netip.MustParseAddr("fd62:7261:6964::c000:1")
	server4 = netip.MustParseAddr("192.0.2.80")
	server6 = netip.MustParseAddr("2001:db8:64::192.0.2.80")
)

func newTranslator(t testing.TB, prefix string, ipv4, ipv6 netip.Addr) *siit.Translator {
	t.Helper()
	tr, err := siit.NewTranslator(netip.MustParsePrefix(prefix), ipv4, ipv6)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// ends are the two translators on the way: ours, and one before the server
// that undoes what it does.
func ends(t testing.TB) (here, there *siit.Translator) {
	return newTranslator(t, prefix.String(), ours4, ours6), newTranslator(t, "fd62:7261:6964::/96", server4, server6)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type translate func(dst, src []byte) (int, error)

// do translates into a buffer of no more than has to be.
func (f translate) do(src []byte) ([]byte, error) {
	dst := bytes.Repeat([]byte{0xee}, len(src)+siit.Growth)
	n, err := f(dst, src)
	return dst[:n], err
}

func TestGolden(t *testing.T) {
	here, _ := ends(t)
	for _, direction := range []struct {
		name      string
		translate translate
		tests     []golden
	}{{"4to6", here.Translate4to6, golden4to6}, {"6to4", here.Translate6to4, golden6to4}} {
		for _, tt := range direction.tests {
			t.Run(direction.name+"/"+tt.name, func(t *testing.T) {
				got, err := direction.translate.do(unhex(t, tt.in))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(hex.Dump(unhex(t, tt.out)), hex.Dump(got)); diff != "" {
					t.Errorf("translation (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// change returns a copy of a packet with octets changed.
func change(b []byte, at int, octets ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], octets)
	return b
}

func find(t *testing.T, tests []golden, name string) []byte {
	t.Helper()
	for _, tt := range tests {
		if tt.name == name {
			return unhex(t, tt.in)
		}
	}
	t.Fatalf("no packet %q", name)
	return nil
}

func TestDrop(t *testing.T) {
	here, _ := ends(t)
	four := func(name string) []byte { return find(t, golden4to6, name) }
	six := func(name string) []byte { return find(t, golden6to4, name) }
	udp4, udp6, echo4, echo6 := four("UDP"), six("UDP"), four("echo request"), six("echo reply")
	route4, ext6 := four("source route at its end"), six("extension headers")
	error4, error6 := four("time exceeded"), six("no route")
	tests := []struct {
		name      string
		translate translate
		in        []byte
		want      error
	}{
		{"4to6 nothing", here.Translate4to6, nil, siit.ErrMalformed},
		{"4to6 IPv6", here.Translate4to6, change(udp4, 0, 0x65), siit.ErrMalformed},
		{"4to6 header too short", here.Translate4to6, change(udp4, 0, 0x44), siit.ErrMalformed},
		{"4to6 header longer than the packet", here.Translate4to6, change(udp4, 0, 0x4f), siit.ErrMalformed},
		{"4to6 total length short of the header", here.Translate4to6, change(udp4, 2, 0, 19), siit.ErrMalformed},
		{"4to6 cut", here.Translate4to6, udp4[:len(udp4)-1], siit.ErrMalformed},
		{"4to6 UDP without a whole header", here.Translate4to6, change(udp4, 2, 0, 27), siit.ErrMalformed},
		{"4to6 from somebody else", here.Translate4to6, change(udp4, 15, 2), siit.ErrForeign},
		{"4to6 to ourselves", here.Translate4to6, change(udp4, 16, 192, 0, 0, 1), siit.ErrForeign},
		{"4to6 source route", here.Translate4to6, change(route4, 22, 4), siit.ErrUnsupported},
		{"4to6 IGMP", here.Translate4to6, change(udp4, 9, 2), siit.ErrUnsupported},
		{"4to6 ICMPv6", here.Translate4to6, change(udp4, 9, 58), siit.ErrUnsupported},
		{"4to6 no next header", here.Translate4to6, change(udp4, 9, 59), siit.ErrUnsupported},
		{"4to6 fragment header", here.Translate4to6, change(udp4, 9, 44), siit.ErrUnsupported},
		{"4to6 fragment without checksum", here.Translate4to6, change(four("UDP without checksum"), 6, 0x20), siit.ErrUnsupported},
		{"4to6 fragment of an echo", here.Translate4to6, change(echo4, 6, 0x20), siit.ErrUnsupported},
		{"4to6 timestamp request", here.Translate4to6, change(echo4, 20, 13), siit.ErrUnsupported},
		{"4to6 redirect", here.Translate4to6, change(error4, 20, 5), siit.ErrUnsupported},
		{"4to6 host precedence violation", here.Translate4to6, change(error4, 20, 3, 14), siit.ErrUnsupported},
		{"4to6 parameter problem at the checksum", here.Translate4to6, change(error4, 20, 12, 0, 0, 0, 10), siit.ErrUnsupported},
		{"4to6 parameter problem in the options", here.Translate4to6, change(error4, 20, 12, 0, 0, 0, 20), siit.ErrUnsupported},
		{"4to6 error about an error", here.Translate4to6, change(change(error4, 28+9, 1), 48, 3), siit.ErrUnsupported},
		{"4to6 error about nothing", here.Translate4to6, change(error4[:28], 2, 0, 28), siit.ErrMalformed},

		{"6to4 nothing", here.Translate6to4, nil, siit.ErrMalformed},
		{"6to4 IPv4", here.Translate6to4, change(udp6, 0, 0x40), siit.ErrMalformed},
		{"6to4 cut", here.Translate6to4, udp6[:len(udp6)-1], siit.ErrMalformed},
		{"6to4 to somebody else", here.Translate6to4, change(udp6, 39, 2), siit.ErrForeign},
		{"6to4 from somebody else", here.Translate6to4, change(udp6, 8, 0x30), siit.ErrForeign},
		{"6to4 echo from somebody else", here.Translate6to4, change(echo6, 8, 0x30), siit.ErrForeign},
		{"6to4 with octet 8 in use", here.Translate6to4, change(udp6, 16, 1), siit.ErrForeign},
		{"6to4 ICMP", here.Translate6to4, change(udp6, 6, 1), siit.ErrUnsupported},
		{"6to4 no next header", here.Translate6to4, change(udp6, 6, 59), siit.ErrUnsupported},
		{"6to4 neighbour solicitation", here.Translate6to4, change(echo6, 40, 135), siit.ErrUnsupported},
		{"6to4 multicast listener report", here.Translate6to4, change(echo6, 40, 143), siit.ErrUnsupported},
		{"6to4 fragment of an echo", here.Translate6to4, change(six("first fragment"), 40, 58), siit.ErrUnsupported},
		{"6to4 second fragment header", here.Translate6to4, change(six("atomic fragment"), 40, 44), siit.ErrMalformed},
		{"6to4 segments left", here.Translate6to4, change(ext6, 51, 1), siit.ErrUnsupported},
		{"6to4 endless header", here.Translate6to4, change(ext6, 41, 255), siit.ErrMalformed},
		{"6to4 unreachable, code without translation", here.Translate6to4, change(error6, 41, 5), siit.ErrUnsupported},
		{"6to4 unrecognized option", here.Translate6to4, change(error6, 40, 4, 2), siit.ErrUnsupported},
		{"6to4 parameter problem at the flow label", here.Translate6to4, change(error6, 40, 4, 0, 0, 0, 0, 0, 0, 2), siit.ErrUnsupported},
		{"6to4 parameter problem far away", here.Translate6to4, change(error6, 40, 4, 0, 0, 0, 1, 0, 0, 0), siit.ErrUnsupported},
		{"6to4 error about an error", here.Translate6to4, change(error6, 48+6, 58, 60, 0xfd), siit.ErrUnsupported},
		{"6to4 error about a stranger's packet", here.Translate6to4, change(error6, 48+24, 0x30), siit.ErrForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.translate.do(tt.in); !errors.Is(err, tt.want) {
				t.Errorf("%x, %v; want %v", got, err, tt.want)
			}
		})
	}
	if _, err := here.Translate4to6(make([]byte, len(udp4)+siit.Growth-1), udp4); !errors.Is(err, siit.ErrBuffer) {
		t.Errorf("4to6 into a small buffer: %v", err)
	}
	if _, err := here.Translate6to4(make([]byte, len(udp6)+siit.Growth-1), udp6); !errors.Is(err, siit.ErrBuffer) {
		t.Errorf("6to4 into a small buffer: %v", err)
	}
}

// Nothing private goes through the well-known prefix (RFC 6052, 3.1).
func TestWellKnownPrefix(t *testing.T) {
	tr := newTranslator(t, "64:ff9b::/96", ours4, ours6)
	packet := find(t, golden4to6, "UDP")
	for addr, want := range map[string]error{
		"8.8.8.8": nil, "192.0.2.80": nil, "172.32.0.1": nil, "100.128.0.1": nil, "192.0.1.1": nil,
		"10.0.0.1": siit.ErrForeign, "172.31.0.1": siit.ErrForeign, "192.168.0.1": siit.ErrForeign,
		"100.127.0.1": siit.ErrForeign, "169.254.0.1": siit.ErrForeign, "127.0.0.1": siit.ErrForeign,
		"224.0.0.1": siit.ErrForeign, "255.255.255.255": siit.ErrForeign, "0.0.0.0": siit.ErrForeign, "192.0.0.170": siit.ErrForeign,
	} {
		_, err := translate(tr.Translate4to6).do(change(packet, 16, netip.MustParseAddr(addr).AsSlice()...))
		if !errors.Is(err, want) {
			t.Errorf("to %s: %v, want %v", addr, err, want)
		}
	}
}

// Errors are no longer than every path carries, and whole all the same.
func TestLongError(t *testing.T) {
	here, _ := ends(t)
	quote := func(error, packet []byte, head int) []byte {
		b := append(slices.Clone(error[:head+8]), packet...)
		if head == 20 {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-head))
		}
		return b
	}
	long := bytes.Repeat([]byte{1, 2, 3, 4, 5}, 250)
	e4, e6 := find(t, golden4to6, "time exceeded"), find(t, golden6to4, "no route")
	e4 = quote(e4, append(change(e4[28:48], 2, 5, 0xdc), long...), 20)
	e6 = quote(e6, append(change(e6[48:88], 4, 5, 0xb4), long...), 40)
	for _, tt := range []struct {
		name      string
		translate translate
		in        []byte
		want      int
	}{{"4to6", here.Translate4to6, e4, 1280}, {"6to4", here.Translate6to4, e6, 576}} {
		got, err := tt.translate.do(tt.in)
		if err != nil || len(got) != tt.want {
			t.Fatalf("%s: %d bytes, %v; want %d", tt.name, len(got), err, tt.want)
		}
		if err := check(got); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// The options of a SYN, and what has become of them.
func TestMSS(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"lowered", "020405b4 01030307", "02040590 01030307"},
		{"small enough", "02040590 01030307", "02040590 01030307"},
		{"across two words", "01020405 b4010303", "01020405 90010303"},
		{"after others", "01010402 020405b4", "01010402 02040590"},
		{"after the end", "00000000 020405b4", "00000000 020405b4"},
		{"endless option", "05000000 020405b4", "05000000 020405b4"},
		{"cut option", "05060000 00000204", "05060000 00000204"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			here, there := ends(t)
			here.MSS, there.MSS = 1424, 1424
			syn := make([]byte, 40, 48)
			syn[6], syn[8], syn[9] = 0x40, 64, 6
			copy(syn[20:], unhex(t, "c3500050 01020304 00000000 7002ffff 00000000"))
			syn = append(syn, unhex(t, tt.in)...)
			fix(syn)
			pseudo := append(slices.Clone(syn[12:20]), 0, 6, 0, 28)
			binary.BigEndian.PutUint16(syn[36:], checksum(append(pseudo, syn[20:]...)))

			six, err := translate(here.Translate4to6).do(syn)
			if err == nil {
				err = check(six)
			}
			if got := hex.EncodeToString(six[60:]); err != nil || got != strings.ReplaceAll(tt.want, " ", "") {
				t.Errorf("4to6: %s, %v; want %s", got, err, tt.want)
			}
			here.MSS = 0
			if six, err = translate(here.Translate4to6).do(syn); err != nil {
				t.Fatal(err)
			}
			four, err := translate(there.Translate6to4).do(six)
			if err == nil {
				err = check(four)
			}
			if got := hex.EncodeToString(four[40:]); err != nil || got != strings.ReplaceAll(tt.want, " ", "") {
				t.Errorf("6to4: %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func BenchmarkTranslate(b *testing.B) {
	here, _ := ends(b)
	tcp4, tcp6 := unhex(b, golden4to6[0].in), unhex(b, golden6to4[0].in)
	long4 := append(tcp4, make([]byte, 1480-len(tcp4))...)
	binary.BigEndian.PutUint16(long4[2:], 1480)
	long6 := append(tcp6, make([]byte, 1500-len(tcp6))...)
	binary.BigEndian.PutUint16(long6[4:], 1460)
	for _, bb := range []struct {
		name      string
		translate translate
		in        []byte
	}{
		{"4to6/small", here.Translate4to6, tcp4}, {"4to6/full", here.Translate4to6, long4},
		{"6to4/small", here.Translate6to4, tcp6}, {"6to4/full", here.Translate6to4, long6},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dst := make([]byte, len(bb.in)+siit.Growth)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bb.translate(dst, bb.in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
		})
	}
}

// Outward it undoes what a host's translator does, and takes nothing that comes
// for a host's.
func TestOutward(t *testing.T) {
	here, _ := ends(t)
	edge := newTranslator(t, prefix.String(), ours4, ours6)
	edge.Outward = true
	for _, name := range []string{"TCP, traffic class and hop limit", "UDP"} {
		out4 := find(t, golden4to6, name)
		six, err := translate(here.Translate4to6).do(out4)
		if err != nil {
			t.Fatal(err)
		}
		back, err := translate(edge.Translate6to4).do(six)
		if err != nil || !bytes.Equal(back[12:], out4[12:]) {
			t.Errorf("%s to a server: %v\n%x, want\n%x", name, err, back, out4)
		}
		if _, err := translate(edge.Translate4to6).do(out4); !errors.Is(err, siit.ErrForeign) {
			t.Errorf("%s from us by IPv4: %v", name, err)
		}
		in6 := find(t, golden6to4, name)
		four, err := translate(here.Translate6to4).do(in6)
		if err != nil {
			t.Fatal(err)
		}
		back, err = translate(edge.Translate4to6).do(four)
		if err != nil || !bytes.Equal(back[4:], in6[4:]) {
			t.Errorf("%s from a server: %v\n%x, want\n%x", name, err, back, in6)
		}
		if _, err := translate(edge.Translate6to4).do(in6); !errors.Is(err, siit.ErrForeign) {
			t.Errorf("%s for us by IPv6: %v", name, err)
		}
	}
}
