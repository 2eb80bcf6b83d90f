// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// table prints each row as soon as it is there.
type table struct {
	widths []int
}

// nameWidth is that of the first column.
const nameWidth = 34

func newTable(title string, columns ...string) *table {
	t := new(table)
	for _, c := range columns {
		t.widths = append(t.widths, max(7, utf8.RuneCountInString(c)))
	}
	fmt.Printf("\n%s\n", title)
	t.row("", columns...)
	return t
}

func (t *table) row(name string, cells ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "  %-*s", nameWidth, name)
	for i, c := range cells {
		fmt.Fprintf(&b, "  %*s", t.widths[i], c)
	}
	fmt.Println(strings.TrimRight(b.String(), " "))
}

// median is the middle one, or the mean of both; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// lastLine is the last line of what a program has written.
func lastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	return string(out[bytes.LastIndexByte(out, '\n')+1:])
}
