// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// connectTo is a Connect message to the 16 bytes of an address in hex.
func connectTo(addr string) string { return "01 06 2263  0a 05 01bb " + addr }

// connectWith is a Connect message with a word of TCP options in hex.
func connectWith(options string) string {
	return "01 07 2263  0a 06 01bb 20010db8 00000000 00000000 00000001" + options
}

func TestRefused(t *testing.T) {
	const (
		none = -1 // reset without an answer
		m    = int(MalformedMessage)
		u    = int(UnsupportedMessage)
	)
	tests := []struct {
		name   string
		wire   string
		answer int
		reason string
	}{
		{"magic number", "01 02 2264  01 01 0000", none, "magic number 0x2264"},
		{"other protocol", "47 45 5420  2f 20 4854", none, "magic number 0x5420"},
		{"total length 0", "01 00 2263  01 01 0000", none, "total length 0"},
		{"version 0", "00 02 2263  01 01 0000", int(UnsupportedVersion), "version 0"},
		{"version 2", "02 02 2263  01 01 0000", int(UnsupportedVersion), "version 2"},
		{"version 2, total length 0", "02 00 2263", int(UnsupportedVersion), "version 2"},

		{"reserved type 0", "01 02 2263  00 01 0000", u, "type 0 TLV"},
		{"unassigned type", "01 02 2263  02 01 0000", u, "type 2 TLV"},
		{"private type after a known one", "01 03 2263  01 01 0000  c0 01 0000", u, "type 192 TLV"},

		{"TLV length 0", "01 02 2263  01 00 0000", m, "Info TLV of 0 bytes where 4 are left"},
		{"TLV past the end", "01 02 2263  16 02 0000", m, "Cookie TLV of 8 bytes where 4 are left"},
		{"unknown TLV past the end", "01 02 2263  c0 ff 0000", m, "type 192 TLV of 1020 bytes where 4 are left"},
		{"second TLV past the end", "01 03 2263  01 01 0000  1e 02 2000", m, "Error TLV of 8 bytes where 4 are left"},
		{"long Info", "01 03 2263  01 02 0000 00000000", m, "Info TLV: 2 words instead of 1"},
		{"short Connect", "01 05 2263  0a 04 01bb 00000000 00000000 0000ffff", m, "Connect TLV: 4 words, at least 5 are needed"},
		{"bare Connect", "01 02 2263  0a 01 01bb", m, "Connect TLV: 1 words, at least 5 are needed"},

		{"two Infos", "01 03 2263  01 01 0000  01 01 0000", m, "two Info TLVs"},
		{"two Cookies apart", "01 06 2263  16 02 0000 01020304  01 01 0000  16 02 0000 05060708", m, "two Cookie TLVs"},

		{"IPv4 multicast", connectTo("00000000 00000000 0000ffff e0000001"), m, "Connect TLV: multicast address 224.0.0.1"},
		{"IPv4 multicast, last", connectTo("00000000 00000000 0000ffff efffffff"), m, "Connect TLV: multicast address 239.255.255.255"},
		{"IPv4 broadcast", connectTo("00000000 00000000 0000ffff ffffffff"), m, "Connect TLV: broadcast address 255.255.255.255"},
		{"IPv4 loopback", connectTo("00000000 00000000 0000ffff 7f000001"), m, "Connect TLV: loopback address 127.0.0.1"},
		{"IPv4 loopback, last", connectTo("00000000 00000000 0000ffff 7fffffff"), m, "Connect TLV: loopback address 127.255.255.255"},
		{"IPv4 unspecified", connectTo("00000000 00000000 0000ffff 00000000"), m, "Connect TLV: unspecified address 0.0.0.0"},
		{"IPv6 multicast", connectTo("ff020000 00000000 00000000 00000001"), m, "Connect TLV: multicast address ff02::1"},
		{"IPv6 loopback", connectTo("00000000 00000000 00000000 00000001"), m, "Connect TLV: loopback address ::1"},
		{"IPv6 unspecified", connectTo("00000000 00000000 00000000 00000000"), m, "Connect TLV: unspecified address ::"},

		{"option length 0", connectWith("1e 00 00 00"), m, "Connect TLV: TCP option 30 of 0 bytes where 4 are left"},
		{"option length 1", connectWith("1e 01 00 00"), m, "Connect TLV: TCP option 30 of 1 bytes where 4 are left"},
		{"option past the end", connectWith("1e 05 00 00"), m, "Connect TLV: TCP option 30 of 5 bytes where 4 are left"},
		{"option without length", connectWith("1e 02 01 1e"), m, "Connect TLV: TCP option 30 has no length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			_, n, err := Parse(append(bytes.Clone(wire), "user data"...))
			_, readErr := Read(bytes.NewReader(wire))
			if n != 0 {
				t.Errorf("Parse took %d bytes", n)
			}
			for _, err := range []error{err, readErr} {
				var pe *ProtocolError
				if !errors.As(err, &pe) {
					t.Fatalf("got %v, want a ProtocolError", err)
				}
				if pe.Reason != tt.reason {
					t.Errorf("reason %q, want %q", pe.Reason, tt.reason)
				}
				if !strings.HasSuffix(pe.Error(), tt.reason) {
					t.Errorf("text %q lacks the reason", pe)
				}
				if (pe.Reply == nil) != (tt.answer == none) {
					t.Fatalf("reply %v, want code %d", pe.Reply, tt.answer)
				}
				if pe.Reply == nil {
					continue
				}
				want := Error{Code: ErrorCode(tt.answer), Value: append([]byte{0}, wire...)}
				if want.Code == UnsupportedVersion {
					want.Value = []byte{Version}
				}
				if diff := cmp.Diff(want, *pe.Reply); diff != "" {
					t.Errorf("reply (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// What section 7.1 wants ignored, and what is only odd, must not be refused.
func TestNotRefused(t *testing.T) {
	tests := []struct{ name, wire string }{
		{"NOP in Connect", connectWith("01 01 1e 02")},
		{"junk after EOL in Connect", connectWith("1e 02 00 ff")},
		{"limited broadcast's neighbour", connectTo("00000000 00000000 0000ffff fffffffe")},
		{"port 0", "01 06 2263  0a 05 0000 20010db8 00000000 00000000 00000001"},
		{"broken options of a server", "01 03 2263  14 02 0000 1e000000"},
		{"empty Error", "01 02 2263  1e 01 2000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := Parse(unhex(t, tt.wire)); err != nil {
				t.Error(err)
			}
		})
	}
}

// The echo of the longest message is cut so that the reply is a message too.
func TestEchoFits(t *testing.T) {
	wire := make([]byte, MaxLen)
	copy(wire, []byte{1, 255, 0x22, 0x63, 192, 254})
	_, _, err := Parse(wire)
	var pe *ProtocolError
	if !errors.As(err, &pe) {
		t.Fatalf("got %v, want a ProtocolError", err)
	}
	b, err := Reply(*pe.Reply).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != MaxLen {
		t.Errorf("reply of %d bytes, want %d", len(b), MaxLen)
	}
	if !bytes.Equal(b[8:], wire[:MaxLen-8]) {
		t.Error("the echo is not the start of the message")
	}
}

func TestCheckRequest(t *testing.T) {
	const fine, silent = -1, -2
	connect := NewConnect(server4, KindMPTCP)
	tests := []struct {
		name string
		tlvs []TLV
		want int
	}{
		{"Connect", []TLV{connect}, fine},
		{"Info", []TLV{Info{}}, fine},
		{"Cookie and Connect", []TLV{Cookie{Value: []byte{1}}, connect}, fine},
		{"Connect, Cookie and Info", []TLV{connect, Cookie{Value: []byte{1}}, Info{}}, fine},
		{"nothing", nil, silent},
		{"Cookie alone", []TLV{Cookie{Value: []byte{1}}}, int(UnsupportedMessage)},
		{"Error", []TLV{Error{Code: NotAuthorized}}, int(UnsupportedMessage)},
		{"Extended TCP Header beside Connect", []TLV{connect, ExtendedTCPHeader{}}, int(UnsupportedMessage)},
		{"Supported TCP Extensions", []TLV{SupportedTCPExtensions{}}, int(UnsupportedMessage)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := Message{TLVs: tt.tlvs}
			err := m.CheckRequest()
			if tt.want == fine {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var pe *ProtocolError
			if !errors.As(err, &pe) {
				t.Fatalf("got %v, want a ProtocolError", err)
			}
			if tt.want == silent {
				if pe.Reply != nil {
					t.Errorf("reply %v, want none", pe.Reply)
				}
				return
			}
			wire, err := m.Append([]byte{0})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Error{Code: ErrorCode(tt.want), Value: wire}, pe.Reply); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	to := func(s string) TLV { return NewConnect(netip.MustParseAddrPort(s)) }
	tests := []struct {
		name string
		tlvs []TLV
		want string
	}{
		{"two of a kind", []TLV{Info{}, Info{}}, "two Info TLVs"},
		{"too long", []TLV{Cookie{Value: make([]byte, MaxLen-7)}}, "1024 bytes, at most 1020 fit"},
		{"too long together", []TLV{Cookie{Value: make([]byte, 1000)}, to("192.0.2.1:1")}, "1028 bytes, at most 1020 fit"},
		{"no address", []TLV{Connect{}}, "invalid AddrPort is no address"},
		{"zone", []TLV{to("[fe80::1%eth0]:1")}, "fe80::1%eth0"},
		{"loopback", []TLV{to("127.0.0.1:1")}, "loopback address 127.0.0.1"},
		{"mapped multicast", []TLV{to("[::ffff:224.0.0.1]:1")}, "multicast address 224.0.0.1"},
		{"options", []TLV{Connect{Remote: server4, Options: Options{30}}}, "TCP option 30 has no length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Message{TLVs: tt.tlvs}.Append(nil)
			if err == nil {
				t.Fatalf("encoded as % x", b)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
		})
	}

	t.Run("request of one's own making", func(t *testing.T) {
		var pe *ProtocolError
		err := Message{TLVs: []TLV{Error{}, Error{}}}.CheckRequest()
		if err == nil || errors.As(err, &pe) {
			t.Errorf("got %v, want the encoding error", err)
		}
	})

	t.Run("longest that fits", func(t *testing.T) {
		b, err := Reply(Cookie{Value: make([]byte, MaxLen-8)}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != MaxLen || b[1] != 255 || b[5] != 254 {
			t.Errorf("%d bytes, lengths %d and %d", len(b), b[1], b[5])
		}
	})
}

// A header that announces the most and a peer that sends no more of it cost no
// more than one message's worth of memory.
func TestReadBoundsMemory(t *testing.T) {
	wire := binary.BigEndian.AppendUint32(nil, 0x01ff2263)
	const runs = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := Read(bytes.NewReader(wire)); err == nil {
			t.Fatal("read a message that is not there")
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / runs; per > 2*MaxLen {
		t.Errorf("%d bytes a message", per)
	}
}
