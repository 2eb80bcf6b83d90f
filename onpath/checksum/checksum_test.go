// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package checksum_test

import (
	"encoding/binary"
	"testing"

	"braid/onpath/checksum"
)

func TestChecksum(t *testing.T) {
	tests := []struct {
		b    []byte
		want uint16
	}{
		{[]byte{8, 0, 0, 0, 0, 0, 0, 0}, 0xf7ff},
		{[]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0x220d}, // RFC 1071 section 3
		{[]byte{0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0}, 0xfffe},
		{[]byte{0x12, 0x34, 0x56}, 0x97cb}, // padded
	}
	for _, tt := range tests {
		got := checksum.Of(checksum.Sum(tt.b))
		if got != tt.want {
			t.Errorf("checksum of %x is %#x, want %#x", tt.b, got, tt.want)
		}
		if len(tt.b)%2 == 1 {
			continue
		}
		if sum := checksum.Of(checksum.Sum(binary.BigEndian.AppendUint16(tt.b, got))); sum != 0 {
			t.Errorf("%x with its checksum sums up to %#x", tt.b, sum)
		}
	}
}

// What Adjust leaves is what the whole would sum up to.
func TestAdjust(t *testing.T) {
	b := []byte{0x45, 0, 0, 0x54, 0, 0, 0x40, 0, 0x40, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 80}
	binary.BigEndian.PutUint16(b[10:], checksum.Of(checksum.Sum(b)))
	for _, to := range [][]byte{{0, 0, 0, 0}, {255, 255, 255, 255}, {192, 0, 0, 1}} {
		went := checksum.Sum(b[12:16])
		copy(b[12:], to)
		checksum.Adjust(b[10:], went, checksum.Sum(to))
		if sum := checksum.Of(checksum.Sum(b)); sum != 0 {
			t.Errorf("from %v: %x sums up to %#x", to, b, sum)
		}
	}
}
