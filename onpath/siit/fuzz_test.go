// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// check says what is wrong with the lengths and checksums of a packet without
// options or extension headers other than a fragment's. It sums octet by octet.
func check(b []byte) error {
	var pseudo []byte
	var proto byte
	var body []byte
	whole := true
	switch b[0] >> 4 {
	case 4:
		if int(binary.BigEndian.Uint16(b[2:])) != len(b) {
			return fmt.Errorf("total length of %d bytes: %x", len(b), b)
		}
		if checksum(b[:20]) != 0 {
			return fmt.Errorf("checksum of the header: %x", b)
		}
		whole = binary.BigEndian.Uint16(b[6:])&0x3fff == 0
		proto, body = b[9], b[20:]
		if proto != 1 {
			pseudo = append(pseudo, b[12:20]...)
		}
	case 6:
		if int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 {
			return fmt.Errorf("payload length of %d bytes: %x", len(b), b)
		}
		proto, body = b[6], b[40:]
		pseudo = append(pseudo, b[8:40]...)
		if proto == 44 {
			whole = false
		}
	default:
		return fmt.Errorf("version: %x", b)
	}
	field := map[byte]int{6: 16, 17: 6}
	if at, ok := field[proto]; ok && whole && len(body) < at+2 {
		return fmt.Errorf("header of protocol %d: %x", proto, b)
	}
	if !whole || proto != 1 && proto != 6 && proto != 17 && proto != 58 {
		return nil
	}
	if proto == 17 && body[6]|body[7] == 0 {
		return errNoChecksum
	}
	if len(pseudo) > 0 {
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
		pseudo = append(pseudo, 0, proto)
	}
	if checksum(append(pseudo, body...)) != 0 {
		return fmt.Errorf("checksum of protocol %d: %x", proto, b)
	}
	return nil
}

var errNoChecksum = errors.New("no checksum")

func checksum(b []byte) uint16 {
	s := 0
	for i, o := range b {
		if i%2 == 0 {
			s += int(o) << 8
		} else {
			s += int(o)
		}
		if s > 0xffff {
			s -= 0xffff
		}
	}
	return ^uint16(s)
}

// fix gives an IPv4 packet the addresses that are translated, and a header
// without options whose length and checksum are right.
func fix(b []byte) {
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], ours4.AsSlice())
	copy(b[16:], server4.AsSlice())
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
}

// FuzzRoundTrip translates there and back. Whatever is right before is right
// after.
func FuzzRoundTrip(f *testing.F) {
	for _, g := range golden4to6 {
		f.Add(unhex(f, g.in))
	}
	here, there := ends(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 20 || len(in) > 65535-100 {
			return
		}
		fix(in)
		before := check(in)
		six, err := translate(here.Translate4to6).do(in)
		if err != nil {
			return
		}
		if err := check(six); before == nil && err != nil {
			t.Fatalf("from %x: %v", in, err)
		}
		four, err := translate(there.Translate6to4).do(six)
		if err != nil {
			if in[9] == 1 && in[20] != 0 && in[20] != 8 {
				return // an error whose meaning is another one there
			}
			t.Fatalf("back from %x, %x: %v", in, six, err)
		}
		if err := check(four); before == nil && err != nil {
			t.Fatalf("back from %x, %x: %v", in, six, err)
		}
		if in[9] == 1 && in[20] != 0 && in[20] != 8 || errors.Is(before, errNoChecksum) {
			return
		}
		if before != nil {
			return // a checksum of -0 may come back as +0
		}
		if len(four) != len(in) || !bytes.Equal(four[12:], in[12:]) || four[1] != in[1] || !bytes.Equal(four[8:10], in[8:10]) {
			t.Fatalf("%x came back as %x", in, four)
		}
	})
}

// FuzzTranslate6to4 looks for panics and for wrong headers.
func FuzzTranslate6to4(f *testing.F) {
	for _, g := range golden6to4 {
		f.Add(unhex(f, g.in))
	}
	here, _ := ends(f)
	here.MSS = 1000
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := translate(here.Translate6to4).do(in)
		if err != nil {
			return
		}
		if int(binary.BigEndian.Uint16(out[2:])) != len(out) || checksum(out[:20]) != 0 {
			t.Fatalf("%x became %x", in, out)
		}
	})
}
