// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"braid/agent/plan"
	"braid/onpath/tproxy"
)

// alive are the families that the packet filter intercepts.
func alive(t *testing.T) (families []string) {
	t.Helper()
	set := run(t, "list", "set", "inet", "braid", "alive")
	for _, family := range []string{"ipv4", "ipv6"} {
		if strings.Contains(set, family+" ") {
			families = append(families, family)
		}
	}
	return families
}

// What says that the agent lives holds for 3 s.
func TestHeart(t *testing.T) {
	var f Filter
	if err := f.Apply(t.Context(), &plan.Firewall{LANDevices: []string{"lan0"}, WANs: []plan.FirewallWAN{{Devices: []string{"wan0"}, Mark: 1 << 24}}, Ports: plan.Ports{1, 1, 1}}); err != nil {
		t.Fatal(err)
	}
	defer f.Apply(t.Context(), nil)
	if got := alive(t); got != nil {
		t.Errorf("alive without a beat: %v", got)
	}
	h, err := tproxy.NewHeart(plan.MarkAgent)
	if err != nil {
		t.Fatal(err)
	}
	beat := func(n int) {
		t.Helper()
		for range n {
			if err := h.Beat(); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := []string{"ipv4", "ipv6"}
	beat(5000) // more than a buffer holds
	if d := cmp.Diff(both, alive(t)); d != "" {
		t.Errorf("after beats (-want +got):\n%s", d)
	}
	time.Sleep(2 * time.Second)
	beat(1)
	last := time.Now()
	time.Sleep(1500 * time.Millisecond) // the first beats alone would be over
	if d := cmp.Diff(both, alive(t)); d != "" {
		t.Errorf("after another (-want +got):\n%s", d)
	}
	for alive(t) != nil && time.Since(last) < 10*time.Second {
		time.Sleep(20 * time.Millisecond)
	}
	if d := time.Since(last); d < 2900*time.Millisecond || d > 4*time.Second {
		t.Errorf("dead %v after the last beat", d)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := h.Beat(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a heart that is closed beats: %v", err)
	}
}
