// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// synAck holds the options of a Linux server's SYN+ACK that takes MPTCP.
var synAck = Options{
	2, 4, 5, 0xb4,
	4, 2,
	8, 10, 1, 2, 3, 4, 5, 6, 7, 8,
	1, 3, 3, 7,
	30, 12, 0x01, 0x81, 1, 2, 3, 4, 5, 6, 7, 8,
}

func TestOptionsAll(t *testing.T) {
	type option struct {
		Kind  byte
		Value []byte
	}
	tests := []struct {
		name string
		list Options
		want []option
	}{
		{"none", nil, nil},
		{"SYN+ACK", synAck, []option{
			{2, []byte{5, 0xb4}},
			{4, []byte{}},
			{8, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
			{3, []byte{7}},
			{30, []byte{0x01, 0x81, 1, 2, 3, 4, 5, 6, 7, 8}},
		}},
		{"padded", Options{30, 2, 0, 0}, []option{{30, []byte{}}}},
		{"after EOL", Options{4, 2, 0, 30, 2}, []option{{4, []byte{}}}},
		{"broken length", Options{4, 2, 30, 1, 4, 2}, []option{{4, []byte{}}}},
		{"past the end", Options{4, 2, 30, 12, 0}, []option{{4, []byte{}}}},
		{"cut", Options{4, 2, 30}, []option{{4, []byte{}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []option
			for kind, value := range tt.list.All() {
				got = append(got, option{kind, value})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("stops", func(t *testing.T) {
		n := 0
		for range synAck.All() {
			n++
			break
		}
		if n != 1 {
			t.Errorf("%d options after the break", n)
		}
	})
}

func TestMPCapable(t *testing.T) {
	tests := []struct {
		name string
		list Options
		want bool
	}{
		{"SYN+ACK of an MPTCP server", synAck, true},
		{"SYN+ACK of a TCP server", synAck[:20], false},
		{"MP_JOIN", Options{30, 16, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, false},
		{"MP_FASTCLOSE, then MP_CAPABLE", Options{30, 3, 0x70, 30, 4, 0x01, 0x81}, true},
		{"asked for in a Connect", Options{30, 2, 0, 0}, false},
		{"behind the end", Options{0, 30, 4, 0x01, 0x81}, false},
		{"none", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.list.MPCapable(); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	tests := []struct {
		name string
		list Options
		want []byte
	}{
		{"MPTCP only", Options{30, 2, 0, 0}, nil},
		{"to be ignored", Options{1, 2, 4, 5, 0xb4, 3, 3, 7, 5, 2, 30, 2}, nil},
		{"Fast Open and TCP-AO, one twice", Options{34, 2, 30, 2, 29, 4, 1, 1, 34, 2}, []byte{34, 29}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.list.Unsupported(KindMPTCP)); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtended(t *testing.T) {
	if NewConnect(server4).Extended() {
		t.Error("a Connect without options is extended")
	}
	if !NewConnect(server4, KindMPTCP).Extended() {
		t.Error("a Connect with MPTCP is not extended")
	}
}
