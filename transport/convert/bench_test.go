// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"testing"
)

// request is what a gateway sends: Connect with MPTCP, and a cookie.
var request = Request(NewConnect(server4, KindMPTCP), bytes.Repeat([]byte{0xc0}, 16))

func TestAllocations(t *testing.T) {
	wire, err := request.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, MaxLen)
	tests := []struct {
		name string
		most float64
		run  func() error
	}{
		// The list and one for each TLV in it.
		{"Parse", 3, func() error { _, _, err := Parse(wire); return err }},
		{"Append", 0, func() error { _, err := request.Append(buf); return err }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := testing.AllocsPerRun(100, func() {
				if err := tt.run(); err != nil {
					t.Fatal(err)
				}
			})
			if got > tt.most {
				t.Errorf("%v allocations, at most %v", got, tt.most)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	wire, err := request.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	wire, err := request.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	r := bytes.NewReader(wire)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(wire)
		if _, err := Read(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, MaxLen)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := request.Append(buf); err != nil {
			b.Fatal(err)
		}
	}
}
