// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package relay

// A flow reads small blocks, which are enough for interactive traffic, and large
// ones while they come back full: at gigabits a second the number of system
// calls decides.
const (
	smallBlock = 16 << 10
	largeBlock = 256 << 10
	spare      = 4 // of each, at most
)

// blocks are those of a loop that are free.
type blocks struct{ small, large [][]byte }

func (l *loop) take(large bool) []byte {
	list, size := &l.blocks.small, smallBlock
	if large {
		list, size = &l.blocks.large, largeBlock
	}
	if n := len(*list); n > 0 {
		b := (*list)[n-1]
		*list = (*list)[:n-1]
		return b
	}
	return make([]byte, size)
}

func (l *loop) give(b []byte) {
	list := &l.blocks.small
	if len(b) == largeBlock {
		list = &l.blocks.large
	}
	if len(*list) < spare {
		*list = append(*list, b)
	}
}
