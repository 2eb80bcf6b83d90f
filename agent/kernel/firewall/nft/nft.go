// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"braid/agent/plan"
	"braid/onpath/nft"
)

// tables are ours, in the order in which they are listed and deleted.
var tables = []string{"inet braid", "ip braid", "ip6 braid"}

// Filter keeps our tables as planned. The zero value is ready; it takes over
// whatever an earlier agent left.
type Filter struct {
	shown   plan.Firewall // whose text is
	text    string
	applied string // text last given to nft
	print   uint64 // of what the kernel made of it
	gen     uint32 // the ruleset's generation then
	ruleset nft.Ruleset
}

// Apply makes the ruleset match f, nil for none at all. It costs one netlink
// message while nobody touches the kernel's ruleset, a few when somebody does,
// and restores what somebody else has changed or deleted of ours.
func (t *Filter) Apply(ctx context.Context, f *plan.Firewall) error {
	text := ""
	if f != nil {
		if t.text == "" || !reflect.DeepEqual(*f, t.shown) {
			t.shown, t.text = *f, Text(*f)
		}
		text = t.text
	}
	gen, err := t.ruleset.Generation()
	if err != nil {
		return fmt.Errorf("reading nftables generation: %w", err)
	}
	if text == t.applied && gen == t.gen {
		return nil
	}
	if text == t.applied {
		// A dump that a change has interrupted proves nothing.
		if print, err := nft.Fingerprint(tables...); err == nil && print == t.print {
			t.gen = gen // what has changed is not ours
			return nil
		}
	}
	listed, err := list(ctx)
	if err != nil {
		return err
	}
	t.applied = unknown
	if text == "" {
		err = remove(ctx, listed)
	} else {
		err = load(ctx, text, listed)
	}
	if err != nil {
		return err
	}
	print, err := nft.Fingerprint(tables...)
	if err != nil {
		return err
	}
	after, err := t.ruleset.Generation()
	if err != nil {
		return fmt.Errorf("reading nftables generation: %w", err)
	}
	// One transaction is one generation. After more of them what was read may
	// be what somebody else has made of it, and the next call sees to that.
	if after-gen <= 1 {
		t.applied, t.print, t.gen = text, print, after
	}
	return nil
}

// InDomains says whether an address is among those of a rule's domains.
func InDomains(ctx context.Context, rule string, a netip.Addr) (bool, error) {
	return has(ctx, ruleSet(rule, a.Is6()), a.String())
}

// AddUnreached has connections to a server forwarded for a while instead of taken.
// That the set is full is no error.
func AddUnreached(dest netip.AddrPort, d time.Duration) error {
	e, err := nft.OpenElements(tables[0])
	if err != nil {
		return err
	}
	defer e.Close()
	err = e.Add(unreachedSet(dest.Addr().Is6()), nft.Key(dest), d)
	if errors.Is(err, unix.ENFILE) {
		return nil
	}
	return err
}

// IsUnreached says whether connections to a server are forwarded now.
func IsUnreached(ctx context.Context, dest netip.AddrPort) (bool, error) {
	return has(ctx, unreachedSet(dest.Addr().Is6()), fmt.Sprintf("%v . %d", dest.Addr(), dest.Port()))
}

// unreachedSet has the servers to which connections are forwarded for a while.
func unreachedSet(v6 bool) string {
	if v6 {
		return "unreached_6"
	}
	return "unreached_4"
}

// has says whether something is in a set.
func has(ctx context.Context, set, element string) (bool, error) {
	_, err := nft.Run(ctx, fmt.Sprintf("get element inet braid %s { %s }\n", set, element), "-f", "-")
	if nft.Absent(err) {
		return false, nil
	}
	return err == nil, err
}

// unknown is no ruleset.
const unknown = "\x00"

// load puts a ruleset in the place of the one listed. Sets that stay keep
// their elements: what dnsmasq has put there, it does not repeat.
func load(ctx context.Context, text, listed string) error {
	var drop strings.Builder
	wanted := objects(text)
	for _, kind := range []string{"chain", "set", "map"} {
		for name := range objects(listed) {
			if o := kind + " "; strings.HasPrefix(name, o) && !wanted[name] {
				fmt.Fprintf(&drop, "delete %s inet braid %s\n", kind, strings.TrimPrefix(name, o))
			}
		}
	}
	const flush = "flush table inet braid\n"
	_, err := nft.Run(ctx, strings.Replace(text, flush, flush+drop.String(), 1), "-f", "-")
	var failed *nft.Error
	if errors.As(err, &failed) {
		// What is there is of another make: a chain of that name hangs on
		// another hook, a set has another type.
		_, err = nft.Run(ctx, strings.Replace(text, flush, "delete table inet braid\ntable inet braid\n", 1), "-f", "-")
	}
	return err
}

// objects are the chains, sets and maps of the table inet braid, as in "set alive".
func objects(ruleset string) map[string]bool {
	found := make(map[string]bool)
	_, table, _ := strings.Cut(ruleset, "table inet braid {")
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "}") {
			break
		}
		if f := strings.Fields(line); len(f) >= 3 && f[2] == "{" && (f[0] == "chain" || f[0] == "set" || f[0] == "map") {
			found[f[0]+" "+f[1]] = true
		}
	}
	return found
}

// Available says whether nft and the kernel can do what the ruleset needs,
// by having them check it.
func Available(ctx context.Context) error {
	if _, err := exec.LookPath("nft"); err != nil {
		return err
	}
	_, err := nft.Run(ctx, Text(plan.Firewall{LANDevices: []string{"lo"}, WANs: []plan.FirewallWAN{{Devices: []string{"lo"}, Mark: 1 << 24}}, Ports: plan.Ports{1, 1, 1}, BlockQUIC: true,
		IPv4: plan.FirewallFamily{Take: true, Shares: []plan.Share{{Mark: 1 << 24, Weight: 1, Usable: true}, {Mark: 1 << 24, Weight: 1, Usable: true}}}}), "-c", "-f", "-")
	return err
}

func remove(ctx context.Context, listed string) error {
	var script strings.Builder
	for _, name := range tables {
		if strings.Contains(listed, "table "+name+" {") {
			fmt.Fprintf(&script, "delete table %s\n", name)
		}
	}
	if script.Len() == 0 {
		return nil
	}
	_, err := nft.Run(ctx, script.String(), "-f", "-")
	return err
}

// list shows our tables without counters and the contents of sets.
func list(ctx context.Context) (string, error) {
	var all strings.Builder
	for _, name := range tables {
		out, err := nft.Run(ctx, "list table "+name+"\n", "-s", "-t", "-f", "-")
		if err != nil && !nft.Absent(err) {
			return "", err
		}
		all.WriteString(out)
	}
	return all.String(), nil
}
