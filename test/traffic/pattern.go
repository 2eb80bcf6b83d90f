// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

const (
	// period of the pattern: prime, so that no buffer size divides it and data that is moved
	// by whole buffers is noticed.
	period = 65_521
	// chunk is the most that is written or read at once.
	chunk = 256 << 10
)

// pattern holds one period and a chunk more, so that a chunk can begin anywhere in the period.
var pattern = func() []byte {
	b := make([]byte, period+chunk)
	rnd := rand.NewChaCha8([32]byte{'b', 'r', 'a', 'i', 'd'})
	rnd.Read(b[:period])
	for i := period; i < len(b); i++ {
		b[i] = b[i-period]
	}
	return b
}()

// A position in the stream of one connection. Each connection begins elsewhere in the pattern,
// so that data of one that ends up in another is noticed.
type position struct {
	phase  uint64
	offset int64
}

// rest returns the data from here on, at most n bytes and a chunk.
func (p position) rest(n int64) []byte {
	i := int((p.phase + uint64(p.offset)) % period)
	return pattern[i:][:min(n, chunk)]
}

// check compares b, at most a chunk, with the data from here on. It returns the index of the
// first byte that differs, or -1.
func (p position) check(b []byte) int {
	want := p.rest(int64(len(b)))
	if bytes.Equal(b, want) {
		return -1
	}
	for i := range b {
		if b[i] != want[i] {
			return i
		}
	}
	return -1
}

// instead says what it is that came where the data from here on were to: which tells
// lost bytes from repeated ones, and both from what is none of the pattern.
func (p position) instead(b []byte) string {
	const enough = 16 // to be found once
	if len(b) < enough {
		return fmt.Sprintf("%x", b)
	}
	b = b[:enough]
	i := bytes.Index(pattern[:period+enough-1], b)
	if i < 0 {
		return fmt.Sprintf("%x", b)
	}
	ahead := (i - int((p.phase+uint64(p.offset))%period) + period) % period
	return fmt.Sprintf("what is %d bytes later, or %d earlier", ahead, period-ahead)
}
