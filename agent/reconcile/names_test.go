// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"braid/agent/dnsmasq"
	"braid/agent/plan"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What dnsmasq is told goes by the rules and the packet filter in use. It stays
// while no WAN works, and is taken back at the end.
func TestNames(t *testing.T) {
	base := t.TempDir()
	dir, program, restarts := filepath.Join(base, "d"), filepath.Join(base, "program"), filepath.Join(base, "restarts")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(base, "conf"), []byte("conf-dir="+dir+"\n"), 0o644))
	must(t, os.WriteFile(program, []byte("#!/bin/sh\necho ipset nftset\n"), 0o755))
	must(t, os.WriteFile(restarts, nil, 0o644))
	r := &Reconciler{names: &dnsmasq.Server{
		Configs: filepath.Join(base, "conf"), Program: program, Restart: []string{"sh", "-c", "printf r >>" + restarts}, Forget: []string{"sh", "-c", "printf r >>" + restarts},
	}}
	working := plan.Plan{WANs: make([]plan.WAN, 1), Firewall: &plan.Firewall{Rules: []plan.FirewallRule{
		{Name: "games"}, {Name: "bank", Domains: []string{"bank.example"}},
	}}}
	dead := plan.Plan{WANs: working.WANs}
	const inNFT, inXT = "nftset=/bank.example/4#inet#braid#rule_bank_4,6#inet#braid#rule_bank_6\n", "ipset=/bank.example/braid_bank_4,braid_bank_6\n"
	steps := []struct {
		name     string
		filter   string
		plan     plan.Plan
		want     string
		restarts int
	}{
		{"no WAN works yet", "", dead, "", 0},
		{"nftables", nftables, working, inNFT, 1},
		{"no WAN works", nftables, dead, inNFT, 1},
		{"one works again", nftables, working, inNFT, 2},
		{"iptables", iptablesName, working, inXT, 3},
		{"the end", iptablesName, plan.Plan{}, "", 4},
	}
	for _, s := range steps {
		r.filter.name = s.filter
		var text, count []byte
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && len(count) < s.restarts || count == nil; time.Sleep(5 * time.Millisecond) {
			must(t, r.tellNames(t.Context(), s.plan))
			text, _ = os.ReadFile(filepath.Join(dir, "braid.conf"))
			count, _ = os.ReadFile(restarts)
		}
		if !strings.HasSuffix(string(text), s.want) || s.want == "" && len(text) > 0 || len(count) != s.restarts {
			t.Errorf("%s: restarted %d times, want %d: %s", s.name, len(count), s.restarts, text)
		}
	}
	// In a namespace of its own the agent has no dnsmasq to tell anything.
	must(t, (&Reconciler{}).tellNames(t.Context(), working))
}
