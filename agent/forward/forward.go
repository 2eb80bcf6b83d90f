// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package forward tells which new flows from the LAN the packet filter
// forwards to a WAN: a WAN that is in no zone of the firewall's gets none,
// whatever routes say; and which connections it has to forward, because
// connection tracking has a helper for them.
//
// It goes by what is in the kernel, not by what somebody's configuration asks
// for, and evaluates the rules without a packet: of a flow it knows devices and
// family, and that it is new. Whatever else a rule asks for may hold or not.
// Only what is dropped in every case counts as dropped.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"braid/onpath/nft"
)

// Flow is a new flow through this host.
type Flow struct {
	In, Out string // devices
	IPv6    bool
}

// Verdict is what becomes of a Flow.
type Verdict int

// The verdicts.
const (
	Either  Verdict = iota // it depends, or cannot be told
	Accepts                // in every case
	Drops                  // in every case
)

func (v Verdict) String() string { return [...]string{"either", "accepts", "drops"}[v] }

// Firewall is what the rules of others say.
type Firewall struct {
	Verdicts map[Flow]Verdict
	Helpers  []Ports // of TCP, see Rules.Helpers
}

// Read asks the kernel what becomes of new flows of both families from each LAN
// device to each WAN device. Our own tables and chains do not count. Tables that
// only iptables knows (legacy) are read by iptables-save, all others by nft: it
// costs a run of nft, and one of iptables-save for each legacy table that there
// is; to evaluate them is a fiftieth of that. The answer holds until Print
// returns something else; of legacy tables that tells nothing.
func Read(ctx context.Context, lan, wan []string) (Firewall, error) {
	var r Rules
	if _, err := exec.LookPath("nft"); err == nil {
		listing, err := nft.Run(ctx, "", "-s", "-t", "list", "ruleset")
		if err == nil {
			err = r.AddNFT(listing)
		}
		if err != nil {
			return Firewall{}, fmt.Errorf("reading the firewall's rules: %w", err)
		}
	}
	for _, x := range []struct {
		names, program string
		ipv6           bool
	}{{names4, "iptables", false}, {names6, "ip6tables", true}} {
		for _, table := range legacyTables {
			saved, err := save(ctx, x.names, x.program, table)
			if err == nil {
				err = r.AddIPTables(saved, x.ipv6)
			}
			if err != nil {
				return Firewall{}, fmt.Errorf("reading the table %s of %s: %w", table, x.program, err)
			}
		}
	}
	f := Firewall{make(map[Flow]Verdict), r.Helpers()}
	for _, in := range lan {
		for _, out := range wan {
			for _, ipv6 := range []bool{false, true} {
				flow := Flow{in, out, ipv6}
				f.Verdicts[flow] = r.Verdict(flow)
			}
		}
	}
	return f, nil
}

// Print is another number when Read may have another answer, as far as that does
// not depend on legacy tables. It starts no process.
func Print() (uint64, error) { return nft.Rules(ourTable) }

// Legacy says whether there are legacy tables that count.
func Legacy() bool {
	for _, names := range []string{names4, names6} {
		for _, table := range legacyTables {
			if there, err := isLegacy(names, table); there || err != nil {
				return true
			}
		}
	}
	return false
}

// What legacy tables there are.
const names4, names6 = "ip_tables_names", "ip6_tables_names"

// legacyTables are those that count.
var legacyTables = []string{"filter", "raw"}

// isLegacy says whether there is a legacy table, which whoever asks iptables for
// it first makes.
func isLegacy(names, table string) (bool, error) {
	tables, err := os.ReadFile("/proc/thread-self/net/" + names)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(strings.Fields(string(tables)), table), err
}

// save is a legacy table as iptables-save writes it, nothing if there is none.
func save(ctx context.Context, names, program, table string) (string, error) {
	if there, err := isLegacy(names, table); !there || err != nil {
		return "", err
	}
	path, err := exec.LookPath(program + "-legacy-save")
	if err != nil {
		path = program + "-save"
	}
	out, err := exec.CommandContext(ctx, path, "-t", table).Output()
	return string(out), err
}
