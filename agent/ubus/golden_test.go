// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unhex reads hexadecimal with spaces, line breaks and # comments.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Written by hand from blob.h and blobmsg.h.
var valueGoldens = []struct {
	name string
	in   any // for Marshal; nil: never written so
	hex  string
	out  map[string]any
}{
	{
		name: "empty",
		in:   struct{}{},
		out:  map[string]any{},
	},
	{
		name: "int32",
		in:   map[string]any{"a": 1},
		hex: `85 00000c  # named, type 5, 12 bytes
		      0001 61 00 # name of 1 byte, NUL
		      00000001`,
		out: map[string]any{"a": int64(1)},
	},
	{
		name: "int64",
		in:   map[string]any{"n": int64(-2)},
		hex:  `84 000010  0001 6e 00  fffffffffffffffe`,
		out:  map[string]any{"n": int64(-2)},
	},
	{
		name: "uint32 that needs 64 bits",
		in:   map[string]any{"n": uint32(1 << 31)},
		hex:  `84 000010  0001 6e 00  0000000080000000`,
		out:  map[string]any{"n": int64(1) << 31},
	},
	{
		name: "int16",
		hex:  `86 00000a  0001 73 00  fffe 0000`,
		out:  map[string]any{"s": int64(-2)},
	},
	{
		name: "bool is an int8, padded",
		in:   map[string]any{"b": true},
		hex:  `87 000009  0001 62 00  01 000000`,
		out:  map[string]any{"b": true},
	},
	{
		name: "double",
		in:   map[string]any{"d": 1.5},
		hex:  `88 000010  0001 64 00  3ff8000000000000`,
		out:  map[string]any{"d": 1.5},
	},
	{
		name: "string, name padded",
		in:   map[string]any{"if": "wan"},
		hex: `83 000010
		      0002 6966 00 000000 # 2 + 2 + 1 bytes make 8
		      77616e 00`,
		out: map[string]any{"if": "wan"},
	},
	{
		name: "null",
		in:   map[string]any{"z": nil},
		hex:  `80 000008  0001 7a 00`,
		out:  map[string]any{"z": nil},
	},
	{
		name: "array, names empty",
		in:   map[string]any{"l": []string{"x", "yz"}},
		hex: `81 000020  0001 6c 00
		        83 00000a  0000 00 00  78 00 0000
		        83 00000b  0000 00 00  797a 00 00`,
		out: map[string]any{"l": []any{"x", "yz"}},
	},
	{
		name: "array of attributes without names",
		hex: `81 000010  0001 6c 00
		        05 000008  00000007`,
		out: map[string]any{"l": []any{int64(7)}},
	},
	{
		name: "tables",
		in: struct {
			T struct{}       `json:"t"`
			U map[string]int `json:"u"`
		}{U: map[string]int{"a": 1}},
		hex: `82 000008  0001 74 00
		      82 000014  0001 75 00
		        85 00000c  0001 61 00  00000001`,
		out: map[string]any{"t": map[string]any{}, "u": map[string]any{"a": int64(1)}},
	},
	{
		name: "of two the first",
		hex: `85 00000c  0001 61 00  00000001
		      85 00000c  0001 61 00  00000002`,
		out: map[string]any{"a": int64(1)},
	},
	{
		name: "string ends at its first NUL",
		hex:  `83 00000c  0001 61 00  62 00 63 00`,
		out:  map[string]any{"a": "b"},
	},
}

func TestValueGoldens(t *testing.T) {
	for _, tt := range valueGoldens {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.hex)
			if tt.in != nil {
				got, err := Marshal(tt.in)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("Marshal:\n got %x\nwant %x", got, want)
				}
			}
			var out map[string]any
			if err := Unmarshal(want, &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.out, out); diff != "" {
				t.Errorf("Unmarshal (-want +got):\n%s", diff)
			}
		})
	}
}

// Written by hand from ubusmsg.h and the sequences of libubus.
func TestMessageGoldens(t *testing.T) {
	args := unhex(t, `85 00000c  0001 61 00  00000001`)
	signed, err := appendMethod(nil, Method{Name: "set", Args: []Arg{{"up", Bool}, {"l", Array}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		m    message
		hex  string
	}{
		{
			name: "hello",
			m:    message{kind: kindHello, peer: 0xdeadbeef},
			hex: `00 00 0000 deadbeef # version, kind, sequence, client id
			      00000004`,
		},
		{
			name: "status",
			m:    answer(message{seq: 9, peer: 0x01020304}, attributes{attrObjID: {0xca, 0xfe, 0, 1}}, ErrNotFound),
			hex: `00 01 0009 01020304  00000014
			      01000008 00000004 # status
			      03000008 cafe0001 # object`,
		},
		{
			name: "invoke",
			m:    message{kind: kindInvoke, seq: 7, peer: 0x11223344, body: invocation(0x11223344, "get", args, false)},
			hex: `00 05 0007 11223344  00000024
			      03000008 11223344    # object
			      04000008 67657400    # method
			      07000010             # data
			        85 00000c  0001 61 00  00000001`,
		},
		{
			name: "notify without reply",
			m:    message{kind: kindNotify, peer: 0x11223344, body: invocation(0x11223344, "x", nil, true)},
			hex: `00 0a 0000 11223344  00000020
			      03000008 11223344
			      04000006 7800 0000
			      07000004
			      0a000005 01 000000   # no reply`,
		},
		{
			name: "add object",
			m:    message{kind: kindAddObject, seq: 1, body: appendAttr(appendAttrString(nil, attrObjPath, "braid"), attrSignature, signed)},
			hex: `00 06 0001 00000000  0000003c
			      0200000a 6272616964 00 0000
			      0600002c
			        82 000028  0003 736574 00 0000 # table "set"
			          85 000010  0002 7570 00 000000  00000007 # up: int8
			          85 00000c  0001 6c 00  00000001 # l: array`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.hex)
			if got := tt.m.append(nil); !bytes.Equal(got, want) {
				t.Errorf("append:\n got %x\nwant %x", got, want)
			}
			got, err := readMessage(bytes.NewReader(want), MaxMessage)
			if err != nil {
				t.Fatal(err)
			}
			if got.kind != tt.m.kind || got.seq != tt.m.seq || got.peer != tt.m.peer || !bytes.Equal(got.body, tt.m.body) {
				t.Errorf("readMessage = %+v, want %+v", got, tt.m)
			}
		})
	}
}

func TestSignature(t *testing.T) {
	want := []Method{{Name: "status"}, {Name: "set", Args: []Arg{{"wan", String}, {"n", Int32}}}}
	var sig []byte
	for _, m := range want {
		var err error
		if sig, err = appendMethod(sig, m); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, signature(sig)); diff != "" {
		t.Errorf("signature (-want +got):\n%s", diff)
	}
}
