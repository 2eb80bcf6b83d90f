// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package sha256 has SHA-256 (FIPS 180-4) and its HMAC (RFC 2104). The standard
// library's are 131 and 149 kB of a router's flash, for a few hashes per
// connection.
package sha256

import (
	"encoding/binary"
	"math/bits"
)

const (
	// Size of a hash, in bytes.
	Size = 32
	// BlockSize is by how many bytes it is computed.
	BlockSize = 64
)

// The first 32 bits of the fractional parts of the square roots of the first
// primes, and of the cube roots (FIPS 180-4, 5.3.3 and 4.2.2).
var (
	initial = state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	round   = [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	}
)

// Sum is the hash of a message.
func Sum(message []byte) (sum [Size]byte) {
	h := initial
	rest := message
	for ; len(rest) >= BlockSize; rest = rest[BlockSize:] {
		h.add(rest)
	}
	const lengthSize = 8
	var last [2 * BlockSize]byte
	n := copy(last[:], rest)
	last[n] = 0x80
	padded := last[:BlockSize]
	if n >= BlockSize-lengthSize {
		padded = last[:]
	}
	binary.BigEndian.PutUint64(padded[len(padded)-lengthSize:], uint64(len(message))*8)
	for ; len(padded) > 0; padded = padded[BlockSize:] {
		h.add(padded)
	}
	for i, v := range h {
		binary.BigEndian.PutUint32(sum[4*i:], v)
	}
	return sum
}

type state [8]uint32

// add adds a block (FIPS 180-4, 6.2.2).
func (h *state) add(block []byte) {
	var w [64]uint32
	for i := range w[:16] {
		w[i] = binary.BigEndian.Uint32(block[4*i:])
	}
	rotate := func(x uint32, n int) uint32 { return bits.RotateLeft32(x, -n) }
	for i := 16; i < len(w); i++ {
		s0 := rotate(w[i-15], 7) ^ rotate(w[i-15], 18) ^ w[i-15]>>3
		s1 := rotate(w[i-2], 17) ^ rotate(w[i-2], 19) ^ w[i-2]>>10
		w[i] = w[i-16] + s0 + w[i-7] + s1
	}
	a, b, c, d, e, f, g, k := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
	for i := range w {
		t1 := k + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (e&f ^ ^e&g) + round[i] + w[i]
		t2 := (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (a&b ^ a&c ^ b&c)
		a, b, c, d, e, f, g, k = t1+t2, a, b, c, d+t1, e, f, g
	}
	for i, v := range [8]uint32{a, b, c, d, e, f, g, k} {
		h[i] += v
	}
}

// HMAC is that of a message. The key has at most BlockSize bytes.
func HMAC(key, message []byte) [Size]byte {
	const ipad, opad = 0x36, 0x5c
	var inner, outer [BlockSize]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range inner {
		inner[i] ^= ipad
		outer[i] ^= opad
	}
	sum := Sum(append(inner[:], message...))
	return Sum(append(outer[:], sum[:]...))
}
