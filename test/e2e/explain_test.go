// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"braid/agent/report"
	"braid/test/rig"
)

// What is explained of flows that are not taken is what the packet filter does
// with them: its rules, the WANs that they may take, and what never leaves.
func TestExplain(t *testing.T) {
	uci := strings.Replace(rig.DefaultUCI, "list lan", "option block_quic '1'\n\tlist lan", 1) + `
config rule 'games'
	list dest_port '27000-27100'
	option proto 'udp'
	option path 'pass'
	option wan 'lte'
config rule 'shut'
	list dest_port '1002'
	option path 'reject'
`
	r := start(t, rig.Options{UCI: uci})
	c := bus(t, r)
	working(t, r, "fibre", true)
	working(t, r, "lte", true)
	for _, tt := range []struct {
		dest  string
		port  int
		proto string
		path  string
		rule  string
		wans  string
		says  string
	}{
		{"192.0.2.80", 27015, "udp", "pass", "games", "lte", "games"},
		{"192.0.2.80", 27015, "tcp", "convert", "", "fibre lte", ""},
		{"192.0.2.80", 1002, "udp", "reject", "shut", "", "shut"},
		{"192.0.2.80", 1002, "tcp", "reject", "shut", "", "shut"},
		{"192.0.2.80", 443, "udp", "reject", "", "", "QUIC"},
		{"192.0.2.80", 53, "udp", "pass", "", "fibre lte", "only TCP"},
		{"2001:db8:80::80", 0, "icmp", "pass", "", "fibre lte", "only TCP"},
		{"198.51.100.2", 80, "tcp", "pass", "", "", "gateway itself"},
		{"127.0.0.1", 80, "tcp", "pass", "", "", "gateway itself"},
		{"224.0.0.251", 80, "tcp", "pass", "", "", "no address"},
		{"fe80::1", 80, "tcp", "pass", "", "", "no address"},
		{"192.168.1.20", 80, "udp", "pass", "", "", "in the LAN"},
	} {
		args := table{"dest": tt.dest, "proto": tt.proto}
		if tt.port > 0 {
			args["port"] = tt.port
		}
		var e report.Explanation
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		must(t, c.Call(ctx, "braid", "explain", args, &e))
		cancel()
		var wans []string
		for _, s := range e.Subflows {
			wans = append(wans, s.WAN)
		}
		if string(e.Path) != tt.path || e.Rule != tt.rule || strings.Join(wans, " ") != tt.wans || !strings.Contains(e.Reason, tt.says) {
			t.Errorf("%s port %d by %s: %+v", tt.dest, tt.port, tt.proto, e)
		}
	}
}
