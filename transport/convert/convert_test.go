// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// unhex reads hex digits with blanks between them as they suit the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var compare = cmp.Options{cmpopts.EquateComparable(netip.AddrPort{})}

var (
	server4 = netip.MustParseAddrPort("192.0.2.1:443")
	server6 = netip.MustParseAddrPort("[2001:db8::1]:80")
)

// goldens follow the figures of RFC 8803, word by word.
var goldens = []struct {
	name string
	wire string
	msg  Message
	// back is what decodes from wire when padding makes it differ from msg.
	back *Message
}{
	{
		name: "fixed header, figure 13",
		wire: "01 01 2263",
	},
	{
		name: "Info, figure 15",
		wire: "01 02 2263  01 01 0000",
		msg:  Reply(Info{}),
	},
	{
		name: "Supported TCP Extensions, figure 16",
		wire: "01 03 2263  15 02 0000 1e 22 00 00",
		msg:  Reply(SupportedTCPExtensions{Kinds: []byte{30, 34}}),
	},
	{
		name: "Info that asks for Families, which are braid's own",
		wire: "01 03 2263  01 01 0000  c6 01 0000",
		msg:  Reply(Info{}, Families{}),
	},
	{
		name: "Supported TCP Extensions with Families",
		wire: "01 04 2263  15 02 0000 1e 00 00 00  c6 01 0002",
		msg:  Reply(SupportedTCPExtensions{Kinds: []byte{30}}, Families{IPv6: true}),
	},
	{
		name: "Supported TCP Extensions, none",
		wire: "01 02 2263  15 01 0000",
		msg:  Reply(SupportedTCPExtensions{}),
	},
	{
		name: "Base Connect to IPv6, figure 17",
		wire: "01 06 2263  0a 05 0050 20010db8 00000000 00000000 00000001",
		msg:  Request(NewConnect(server6), nil),
	},
	{
		name: "Base Connect to IPv4, figure 17",
		wire: "01 06 2263  0a 05 01bb 00000000 00000000 0000ffff c0000201",
		msg:  Request(NewConnect(server4), nil),
	},
	{
		name: "Base Connect to IPv4 given as mapped",
		wire: "01 06 2263  0a 05 01bb 00000000 00000000 0000ffff c0000201",
		msg:  Request(NewConnect(netip.MustParseAddrPort("[::ffff:192.0.2.1]:443")), nil),
		back: &Message{TLVs: []TLV{Connect{Remote: server4}}},
	},
	{
		name: "Extended Connect with MPTCP left to the converter, figures 18 and 19",
		wire: "01 07 2263  0a 06 01bb 00000000 00000000 0000ffff c0000201  1e 02 00 00",
		msg:  Request(NewConnect(server4, KindMPTCP), nil),
		back: &Message{TLVs: []TLV{Connect{Remote: server4, Options: Options{30, 2, 0, 0}}}},
	},
	{
		name: "Extended Connect with a Fast Open cookie for the server, figures 18 and 19",
		wire: "01 09 2263  0a 08 01bb 00000000 00000000 0000ffff c0000201" +
			"  22 0a 0102 03040506 0708 1e02",
		msg: Request(Connect{Remote: server4, Options: Options{
			34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 30, 2,
		}}, nil),
	},
	{
		name: "Connect with a Cookie",
		wire: "01 09 2263  0a 06 01bb 00000000 00000000 0000ffff c0000201  1e 02 00 00" +
			"  16 02 0000 c0ffee11",
		msg: Request(Connect{Remote: server4, Options: Options{30, 2, 0, 0}},
			[]byte{0xc0, 0xff, 0xee, 0x11}),
	},
	{
		name: "Extended TCP Header, figure 20",
		wire: "01 07 2263  14 06 0000 020405b4 01 03 03 07" +
			"  1e0c 0181 0102030405060708",
		msg: Reply(ExtendedTCPHeader{Options: Options{
			2, 4, 5, 180, 1, 3, 3, 7, 30, 12, 1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8,
		}}),
	},
	{
		name: "Extended TCP Header of a server without options",
		wire: "01 02 2263  14 01 0000",
		msg:  Reply(ExtendedTCPHeader{}),
	},
	{
		name: "Cookie, figure 21",
		wire: "01 04 2263  16 03 0000 c0ffee00 01000000",
		msg:  Reply(Cookie{Value: []byte{0xc0, 0xff, 0xee, 0, 1}}),
		back: &Message{TLVs: []TLV{Cookie{Value: []byte{0xc0, 0xff, 0xee, 0, 1, 0, 0, 0}}}},
	},
	{
		name: "Unsupported Version, figure 22",
		wire: "01 02 2263  1e 01 00 01",
		msg:  Reply(Error{Code: UnsupportedVersion, Value: []byte{1}}),
	},
	{
		name: "Unsupported Version with several",
		wire: "01 03 2263  1e 02 00 01 02000000",
		msg:  Reply(Error{Code: UnsupportedVersion, Value: []byte{1, 2}}),
		back: &Message{TLVs: []TLV{Error{Code: UnsupportedVersion, Value: []byte{1, 2, 0, 0, 0}}}},
	},
	{
		name: "Malformed Message, figure 23",
		wire: "01 04 2263  1e 03 01 00  01 02 2263 01 00 0000",
		msg: Reply(Error{Code: MalformedMessage, Value: []byte{
			0, 1, 2, 0x22, 0x63, 1, 0, 0, 0,
		}}),
	},
	{
		name: "Unsupported Message, figure 23",
		wire: "01 04 2263  1e 03 02 00  01 02 2263 c0 01 0000",
		msg: Reply(Error{Code: UnsupportedMessage, Value: []byte{
			0, 1, 2, 0x22, 0x63, 0xc0, 1, 0, 0,
		}}),
	},
	{
		name: "Missing Cookie",
		wire: "01 04 2263  1e 03 03 00  01020304 05060708",
		msg:  Reply(Error{Code: MissingCookie, Value: []byte{0, 1, 2, 3, 4, 5, 6, 7, 8}}),
	},
	{
		name: "Not Authorized",
		wire: "01 02 2263  1e 01 20 00",
		msg:  Reply(Error{Code: NotAuthorized}),
		back: &Message{TLVs: []TLV{Error{Code: NotAuthorized, Value: []byte{0}}}},
	},
	{
		name: "Unsupported TCP Option",
		wire: "01 03 2263  1e 02 21 1d  22000000",
		msg:  Reply(Error{Code: UnsupportedTCPOption, Value: []byte{29, 34}}),
		back: &Message{TLVs: []TLV{Error{Code: UnsupportedTCPOption, Value: []byte{29, 34, 0, 0, 0}}}},
	},
	{
		name: "Resource Exceeded",
		wire: "01 02 2263  1e 01 40 05",
		msg:  Reply(RetryError(ResourceExceeded, 5e9)),
	},
	{
		name: "Network Failure",
		wire: "01 02 2263  1e 01 41 00",
		msg:  Reply(RetryError(NetworkFailure, 0)),
	},
	{
		name: "Connection Reset",
		wire: "01 02 2263  1e 01 60 00",
		msg:  Reply(Error{Code: ConnectionReset, Value: []byte{0}}),
	},
	{
		name: "Destination Unreachable",
		wire: "01 02 2263  1e 01 61 0d",
		msg:  Reply(Error{Code: DestinationUnreachable, Value: []byte{13}}),
	},
	{
		name: "error code of somebody's own",
		wire: "01 02 2263  1e 01 c0 07",
		msg:  Reply(Error{Code: 192, Value: []byte{7}}),
	},
}

func TestAppend(t *testing.T) {
	for _, tt := range goldens {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.msg.Append([]byte("before"))
			if err != nil {
				t.Fatal(err)
			}
			want := append([]byte("before"), unhex(t, tt.wire)...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("wire (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, tt := range goldens {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			want := tt.msg
			if tt.back != nil {
				want = *tt.back
			}
			got, n, err := Parse(append(bytes.Clone(wire), "user data"...))
			if err != nil {
				t.Fatal(err)
			}
			if n != len(wire) {
				t.Errorf("took %d bytes, want %d", n, len(wire))
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	for _, tt := range goldens {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.msg
			if tt.back != nil {
				want = *tt.back
			}
			r := bytes.NewReader(append(unhex(t, tt.wire), "user data"...))
			got, err := Read(iotest.OneByteReader(r))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			rest, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if string(rest) != "user data" {
				t.Errorf("left %q in the stream", rest)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range goldens {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			for i := range wire {
				need := len(wire)
				if i < 4 {
					need = 4
				}
				var short *ShortError
				_, n, err := Parse(wire[:i])
				if !errors.As(err, &short) || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("Parse of %d bytes: %v", i, err)
				}
				if n != 0 || short.Need != need {
					t.Errorf("Parse of %d bytes took %d and needs %d, want 0 and %d", i, n, short.Need, need)
				}

				want := io.ErrUnexpectedEOF
				if i == 0 {
					want = io.EOF
				}
				if _, err := Read(bytes.NewReader(wire[:i])); !errors.Is(err, want) {
					t.Errorf("Read of %d bytes: %v, want %v", i, err, want)
				}
			}
		})
	}
}

// The unassigned fields are the receiver's to ignore.
func TestParseIgnoresUnassigned(t *testing.T) {
	got, _, err := Parse(unhex(t, "01 06 2263  01 01 abcd  14 01 abcd  15 02 abcd 1e000000  16 01 abcd"))
	if err != nil {
		t.Fatal(err)
	}
	want := Message{TLVs: []TLV{
		Info{}, ExtendedTCPHeader{}, SupportedTCPExtensions{Kinds: []byte{30}}, Cookie{},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	m := Request(NewConnect(server4), []byte{1})
	if c, ok := Find[Connect](m); !ok || c.Remote != server4 {
		t.Errorf("Connect: %v, %v", c, ok)
	}
	if c, ok := Find[Cookie](m); !ok || !c.Equal([]byte{1}) {
		t.Errorf("Cookie: %v, %v", c, ok)
	}
	if e, ok := Find[Error](m); ok {
		t.Errorf("Error: %v", e)
	}
}
