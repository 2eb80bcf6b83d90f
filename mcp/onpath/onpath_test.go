// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package onpath

import (
	"bytes"
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/mcp/config"
	"braid/onpath/nft"
	"braid/transport/journal"
)

// kernel is all that a converter on the path may leave.
func kernel(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `nft list tables; ip rule | grep 690; ip -6 rule | grep 690
		ip route show table 7090 2>/dev/null; ip -6 route show table 7090 2>/dev/null
		ip mptcp endpoint; ip -br link | grep braid64; ip -6 route | grep db8; true`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// What the configuration says holds, whatever it said before and whoever takes
// the rules away, and nothing is left in the end.
func TestApply(t *testing.T) {
	var log bytes.Buffer
	o := New(journal.New(&log), 10)
	ctx, cancel := context.WithCancel(t.Context())
	want := func(substrings ...string) {
		t.Helper()
		have := kernel(t)
		for _, s := range substrings {
			if !strings.Contains(have, s) {
				t.Errorf("no %q:\n%s", s, have)
			}
		}
	}
	c := config.OnPath{Interfaces: []string{"eth1"}, Clients: prefixList("203.0.113.0/24"), Lend: netip.MustParsePrefix("2001:db8:64::/96")}
	for range 2 {
		if err := o.Apply(ctx, &c); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"table inet braid_mcp", "table ip braid_mcp", "table ip6 braid_mcp", "fwmark 0x32000000/0x3f000000", "local default",
		"2001:db8:64::c000:3", "id 207", "braid64-0", "2001:db8:64::/96"}
	want(all...)
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx, ctx) })
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, _ := nft.Run(t.Context(), "", "list", "table", "inet", "braid_mcp")
		if strings.Contains(out, "expires") && strings.Contains(out, "tproxy") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the rules do not come back:\n%s", out)
		}
	}
	other := c
	other.Lend = netip.MustParsePrefix("2001:db8:65::/96")
	if err := o.Apply(ctx, &other); err != nil {
		t.Fatal(err)
	}
	want("2001:db8:65::c000:3", "2001:db8:65::/96")
	if have := kernel(t); strings.Contains(have, "2001:db8:64:") {
		t.Errorf("still there:\n%s", have)
	}
	if err := o.Apply(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if have := kernel(t); have != "" {
		t.Errorf("left by a reload:\n%s", have)
	}
	if err := o.Apply(ctx, &c); err != nil {
		t.Fatal(err)
	}
	want(all...)
	if st := o.Status(); st == nil || st.Open != 0 {
		t.Errorf("%+v", st)
	}
	cancel()
	running.Wait()
	if have := kernel(t); have != "" {
		t.Errorf("left in the end:\n%s", have)
	}
	if o.Status() != nil {
		t.Error("it says that it is there")
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Error(log.String())
	}
}

// One that cannot take its place leaves that of the other as it is.
func TestApplyFails(t *testing.T) {
	one, two := New(journal.New(new(bytes.Buffer)), 10), New(journal.New(new(bytes.Buffer)), 10)
	c := config.OnPath{Interfaces: []string{"eth1"}, Clients: prefixList("203.0.113.0/24")}
	if err := one.Apply(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	if err := two.Apply(t.Context(), &c); err == nil {
		t.Error("two at once")
	}
	if have := kernel(t); !strings.Contains(have, "table ip6 braid_mcp") || !strings.Contains(have, "fwmark 0x32000000") {
		t.Errorf("the first one is left with:\n%s", have)
	}
	if err := one.Apply(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if have := kernel(t); have != "" {
		t.Errorf("left:\n%s", have)
	}
}
