// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package alloc counts what the product's own functions allocate, in a process that
// is its own far end as well.
package alloc

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Profile has all that is allocated be noted, for the rest of a test.
func Profile(t *testing.T) {
	rate := runtime.MemProfileRate
	t.Cleanup(func() { runtime.MemProfileRate = rate })
	runtime.MemProfileRate = 1
}

// By is how many objects have been allocated so far by functions that have one of the
// prefixes, and by those that they call.
func By(prefixes ...string) (n int64) {
	runtime.GC() // twice, by which the profile is whole
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 1<<14)
	found, ok := runtime.MemProfile(records, true)
	if !ok {
		panic("the profile is longer than that")
	}
	for _, r := range records[:found] {
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			is := func(prefix string) bool { return strings.HasPrefix(f.Function, prefix) }
			if slices.ContainsFunc(prefixes, is) && !strings.HasSuffix(f.File, "_test.go") {
				n += r.AllocObjects
				break
			}
		}
	}
	return n
}
