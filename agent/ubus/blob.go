// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// A blob attribute is a big-endian word, of which bit 31 says "has a name"
// (used by blobmsg only), bits 24 to 30 are the id and the rest the length with
// this word, then the payload, then zeros up to a multiple of four.
const (
	attrHeader  = 4
	attrNamed   = 1 << 31
	attrIDShift = 24
	attrIDMask  = 0x7f
	attrLenMask = 1<<24 - 1
)

type attr struct {
	id    uint8
	named bool
	data  []byte
}

func align(n int) int { return (n + 3) &^ 3 }

func splitAttr(b []byte) (a attr, rest []byte, err error) {
	if len(b) < attrHeader {
		return attr{}, nil, fmt.Errorf("attribute cut off after %d bytes: %w", len(b), ErrParse)
	}
	w := binary.BigEndian.Uint32(b)
	n := int(w & attrLenMask)
	if n < attrHeader || align(n) > len(b) {
		return attr{}, nil, fmt.Errorf("attribute of %d bytes in %d: %w", n, len(b), ErrParse)
	}
	a = attr{id: uint8(w >> attrIDShift & attrIDMask), named: w&attrNamed != 0, data: b[attrHeader:n]}
	return a, b[align(n):], nil
}

// attrs yields the attributes in b, and ends after the first error.
func attrs(b []byte) iter.Seq2[attr, error] {
	return func(yield func(attr, error) bool) {
		for len(b) > 0 {
			a, rest, err := splitAttr(b)
			if !yield(a, err) || err != nil {
				return
			}
			b = rest
		}
	}
}

func appendAttr(b []byte, id uint8, data []byte) []byte {
	b, at := openAttr(b, id)
	return closeAttr(append(b, data...), at)
}

func appendAttr32(b []byte, id uint8, v uint32) []byte {
	return appendAttr(b, id, binary.BigEndian.AppendUint32(nil, v))
}

func appendAttrString(b []byte, id uint8, s string) []byte {
	b, at := openAttr(b, id)
	return closeAttr(append(append(b, s...), 0), at)
}

// openAttr starts an attribute whose payload the caller appends. The result at
// is for closeAttr.
func openAttr(b []byte, id uint8) (_ []byte, at int) {
	return binary.BigEndian.AppendUint32(b, uint32(id)<<attrIDShift), len(b)
}

// closeAttr sets the length of the attribute opened at and pads it. Messages
// are far below the 16 MB an attribute can be long; the sender checks that.
func closeAttr(b []byte, at int) []byte {
	w := binary.BigEndian.Uint32(b[at:])
	binary.BigEndian.PutUint32(b[at:], w|uint32(len(b)-at)&attrLenMask)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
