// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package forward tells which new flows from the LAN the packet filter
// forwards to a WAN: a WAN that is in no zone of the firewall's gets none,
// whatever routes say.
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

// Read asks the kernel what becomes of new flows of both families from each LAN
// device to each WAN device. Our own tables and chains do not count. Tables that
// only iptables knows (legacy) are read by iptables-save, all others by nft: it
// costs a run of nft, and one of iptables-save for each family that has legacy
// tables; to evaluate them is a fiftieth of that. The answer holds until the
// ruleset's generation changes; legacy tables have none.
func Read(ctx context.Context, lan, wan []string) (map[Flow]Verdict, error) {
	var r Rules
	if _, err := exec.LookPath("nft"); err == nil {
		listing, err := nft.Run(ctx, "", "-s", "-t", "list", "ruleset")
		if err == nil {
			err = r.AddNFT(listing)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the firewall's rules: %w", err)
		}
	}
	for _, x := range []struct {
		names, program string
		ipv6           bool
	}{{"ip_tables_names", "iptables", false}, {"ip6_tables_names", "ip6tables", true}} {
		saved, err := save(ctx, x.names, x.program)
		if err == nil {
			err = r.AddIPTables(saved, x.ipv6)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the rules of %s: %w", x.program, err)
		}
	}
	verdicts := make(map[Flow]Verdict)
	for _, in := range lan {
		for _, out := range wan {
			for _, ipv6 := range []bool{false, true} {
				f := Flow{in, out, ipv6}
				verdicts[f] = r.Verdict(f)
			}
		}
	}
	return verdicts, nil
}

// save is the legacy table filter as iptables-save writes it, nothing if there
// is none: to ask for it would make it.
func save(ctx context.Context, names, program string) (string, error) {
	const table = "filter"
	tables, err := os.ReadFile("/proc/thread-self/net/" + names)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(tables)), table) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(program + "-legacy-save")
	if err != nil {
		path = program + "-save"
	}
	out, err := exec.CommandContext(ctx, path, "-t", table).Output()
	return string(out), err
}
