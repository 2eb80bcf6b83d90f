// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// piece is what a fragment says of itself.
type piece struct {
	Size, Offset int
	More         bool
	ID           uint32
}

func TestPieces(t *testing.T) {
	const mtu = 1280
	original := []byte{4: 0, 5: 5, 6: 0, 7: 0} // its identification, and no DF
	whole := func(n int) []byte {
		b := append([]byte{0x60, 0, 0, 0, 0, 0, protoUDP, 64}, make([]byte, 32+n)...)
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		for i := range n {
			b[header6+i] = byte(i * 7)
		}
		return b
	}
	fragment := func(offset int, more uint16, n int) []byte {
		b := whole(headerFrag + n)
		b[6] = protoFragment
		copy(b[header6:], []byte{protoUDP, 0})
		binary.BigEndian.PutUint16(b[header6+2:], uint16(offset)|more)
		binary.BigEndian.PutUint32(b[header6+4:], 77)
		return b
	}
	tests := []struct {
		name string
		in   []byte
		want []piece
	}{
		{"cut", whole(2000), []piece{{1280, 0, true, 5}, {816, 1232, false, 5}}},
		{"just two", whole(2464), []piece{{1280, 0, true, 5}, {1280, 1232, false, 5}}},
		{"fragment", fragment(1480, 1, 1240), []piece{{1280, 1480, true, 77}, {56, 2712, true, 77}}},
		{"last fragment", fragment(1480, 0, 1235), []piece{{1280, 1480, true, 77}, {51, 2712, false, 77}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []piece
			var data []byte
			for b := range Pieces(tt.in, original, mtu) {
				if b[6] != protoFragment || b[header6] != protoUDP || int(binary.BigEndian.Uint16(b[4:])) != len(b)-header6 {
					t.Errorf("header %x", b[:header6+headerFrag])
				}
				at := binary.BigEndian.Uint16(b[header6+2:])
				got = append(got, piece{len(b), int(at &^ 7), at&1 != 0, binary.BigEndian.Uint32(b[header6+4:])})
				data = append(data, b[header6+headerFrag:]...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fragments (-want +got):\n%s", diff)
			}
			if !bytes.HasSuffix(tt.in, data) || len(tt.in)-len(data) > header6+headerFrag {
				t.Errorf("%d bytes of %d arrive", len(data), len(tt.in))
			}
		})
	}
	for name, tt := range map[string]struct{ in, original []byte }{
		"fits": {whole(1240), original}, "must not be cut": {whole(2000), []byte{6: dontFragment >> 8, 7: 0}},
	} {
		n := 0
		for b := range Pieces(tt.in, tt.original, mtu) {
			if n++; n > 1 || !bytes.Equal(b, tt.in) {
				t.Errorf("%s: piece %d is %x", name, n, b)
			}
		}
	}
}
