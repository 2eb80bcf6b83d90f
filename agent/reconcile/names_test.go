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
	dir, program, told := filepath.Join(base, "d"), filepath.Join(base, "program"), filepath.Join(base, "told")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(base, "conf"), []byte("conf-dir="+dir+"\n"), 0o644))
	must(t, os.WriteFile(program, []byte("#!/bin/sh\necho ipset nftset\n"), 0o755))
	must(t, os.WriteFile(told, nil, 0o644))
	r := &Reconciler{names: &dnsmasq.Server{
		Configs: filepath.Join(base, "conf"), Program: program, Restart: []string{"sh", "-c", "printf r >>" + told},
		Forget: []string{"sh", "-c", "printf f >>" + told},
	}}
	working := plan.Plan{WANs: make([]plan.WAN, 1), Firewall: &plan.Firewall{Rules: []plan.FirewallRule{
		{Name: "games"}, {Name: "bank", Domains: []string{"bank.example"}},
	}}}
	dead := plan.Plan{WANs: working.WANs}
	const inNFT, inXT = "nftset=/bank.example/4#inet#braid#rule_bank_4,6#inet#braid#rule_bank_6\n", "ipset=/bank.example/braid_bank_4,braid_bank_6\n"
	steps := []struct {
		name   string
		filter string
		plan   plan.Plan
		want   string
		told   string // r to restart, f to forget
	}{
		{"no WAN works yet", "", dead, "", ""},
		{"nftables", nftables, working, inNFT, "r"},
		{"no WAN works", nftables, dead, inNFT, "r"},
		{"one works again", nftables, working, inNFT, "rf"},
		{"iptables", iptablesName, working, inXT, "rfr"},
		{"the end", iptablesName, plan.Plan{}, "", "rfrr"},
	}
	for _, s := range steps {
		r.filter.name = s.filter
		var text, count []byte
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && len(count) < len(s.told) || count == nil; time.Sleep(5 * time.Millisecond) {
			must(t, r.tellNames(t.Context(), s.plan))
			text, _ = os.ReadFile(filepath.Join(dir, "braid.conf"))
			count, _ = os.ReadFile(told)
		}
		if !strings.HasSuffix(string(text), s.want) || s.want == "" && len(text) > 0 || string(count) != s.told {
			t.Errorf("%s: told %s, want %s: %s", s.name, count, s.told, text)
		}
	}
	// In a namespace of its own the agent has no dnsmasq to tell anything.
	must(t, (&Reconciler{}).tellNames(t.Context(), working))
}
