// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard_test

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"braid/transport/guard"
)

// The acknowledgements that are on their way when a line goes down are waited
// for, no longer, and only where there are any.
func TestSettle(t *testing.T) {
	w, near, far := bonded(t)
	fibre, other := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("192.0.2.99")
	var sent atomic.Uint64
	var g guard.Guard
	var ward guard.Ward
	g.Add(&ward, near, &sent)
	defer g.Remove(&ward)
	settle := func(a netip.Addr) (took time.Duration, acked uint64) {
		t.Helper()
		before, err := near.Info()
		must(t, err)
		start := time.Now()
		g.Settle([]netip.Addr{a})
		took = time.Since(start)
		after, err := near.Info()
		must(t, err)
		return took, after.Una - before.Una
	}
	const atOnce = 4 * time.Millisecond // less than one look
	if took, _ := settle(fibre); took > atOnce {
		t.Errorf("idle: %v", took)
	}
	go io.Copy(io.Discard, far)
	go func() {
		for b := make([]byte, 64<<10); ; {
			if _, err := near.Write(b); err != nil {
				return // closed at the end
			}
		}
	}()
	flowing := func() {
		t.Helper()
		before, err := near.Subflows()
		must(t, err)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			flows, err := near.Subflows()
			must(t, err)
			if len(flows) == 2 && len(before) == 2 && flows[0].BytesAcked > before[0].BytesAcked+1<<20 && flows[1].BytesAcked > before[1].BytesAcked+1<<20 {
				return
			}
			if len(before) < 2 {
				before = flows
			}
			if time.Now().After(deadline) {
				t.Fatalf("not sent over both: %+v", flows)
			}
		}
	}
	flowing()
	if took, _ := settle(other); took > atOnce {
		t.Errorf("nothing is sent from there: %v", took)
	}
	// If the first byte that is missing was on the dead line, no more than
	// what was sent before it is ever acknowledged: mostly, not always.
	for try := 1; ; try++ {
		must(t, w.WANs[0].SetDown())
		took, acked := settle(fibre)
		// The path that is left has a round trip of 40 ms.
		if took < 10*time.Millisecond || took > 90*time.Millisecond {
			t.Errorf("waited %v", took)
		}
		if acked > 0 {
			return
		}
		if try == 5 {
			t.Fatal("nothing was acknowledged meanwhile")
		}
		must(t, w.WANs[0].SetUp())
		flowing()
	}
}
