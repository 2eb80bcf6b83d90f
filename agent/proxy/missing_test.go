// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"testing"
	"time"

	"braid/transport/mptcp"
)

func subflowsFrom(addrs ...netip.Addr) (flows []mptcp.Subflow) {
	for _, a := range addrs {
		flows = append(flows, mptcp.Subflow{Local: netip.AddrPortFrom(a, 4000)})
	}
	return flows
}

// A subflow that is lacking is due when it has been for a second, one that is
// just being made is not; a connection without any is helpless while there are
// endpoints for it.
func TestMissingLook(t *testing.T) {
	fibre, lte := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("100.64.0.2")
	both := []mptcp.Endpoint{{ID: 224, Addr: fibre}, {ID: 226, Addr: lte}}
	type step struct {
		after    time.Duration // the step before
		eps      []mptcp.Endpoint
		flows    []mptcp.Subflow
		due      []netip.Addr
		helpless bool
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"all there", []step{{0, both, subflowsFrom(fibre, lte), nil, false}, {2 * time.Second, both, subflowsFrom(fibre, lte), nil, false}}},
		{"just being made", []step{{0, both, subflowsFrom(fibre), nil, false}, {500 * time.Millisecond, both, subflowsFrom(fibre, lte), nil, false},
			{time.Second, both, subflowsFrom(fibre), nil, false}}},
		{"lost", []step{{0, both, subflowsFrom(fibre), nil, false}, {time.Second, both, subflowsFrom(fibre), []netip.Addr{lte}, false}}},
		{"the first lost", []step{{0, both, subflowsFrom(lte), nil, false}, {time.Second, both, subflowsFrom(lte), []netip.Addr{fibre}, false}}},
		{"its line away meanwhile", []step{{0, both, subflowsFrom(fibre), nil, false}, {time.Second, both[:1], subflowsFrom(fibre), nil, false},
			{time.Second, both, subflowsFrom(fibre), nil, false}}},
		{"none left", []step{{0, both, nil, nil, true}, {time.Second, both, nil, []netip.Addr{fibre, lte}, true}, {time.Second, both, subflowsFrom(lte), []netip.Addr{fibre}, false}}},
		{"no lines", []step{{0, nil, nil, nil, false}, {time.Minute, nil, nil, nil, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m missing
			now := time.Now()
			for i, s := range tt.steps {
				now = now.Add(s.after)
				due, _ := m.look(now, s.eps, s.flows)
				for _, a := range s.due {
					if due[a] == nil {
						t.Errorf("step %d: %v is not due", i, a)
					}
				}
				if len(due) != len(s.due) || m.helpless.IsZero() == s.helpless {
					t.Errorf("step %d: due %v, helpless since %v", i, due, m.helpless)
				}
			}
		})
	}
}
