// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package iptables programs iptables and ipset, for systems without nftables,
// to do what the ruleset of package nft does. Chains are filled by
// iptables-restore, one transaction a table, and hooked in when all are there.
package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"braid/agent/plan"
	"braid/onpath/nft"
)

// prefix is that of our chains.
const prefix = "BRAID_"

// hooks are the chains of the system from which ours are reached, in the order
// in which that is to begin: what carries packets before what brings them.
// Each leads to the chain of its name.
var hooks = []hook{
	{"raw", "OUTPUT"},
	{"raw", "PREROUTING"},
	{"filter", "INPUT"},
	{"filter", "OUTPUT"},
	{"filter", "FORWARD"},
	{"nat", "POSTROUTING"},
	{"mangle", "OUTPUT"},
	{"mangle", "PREROUTING"},
	{"mangle", "POSTROUTING"},
	{"mangle", "FORWARD"},
}

type hook struct{ table, chain string }

// line is the hook as iptables-save shows it, by the command -A, and as
// iptables-restore takes it.
func (h hook) line(command string) string {
	return fmt.Sprintf("%s %s -j %s%s", command, h.chain, prefix, h.chain)
}

// Filter keeps our chains and sets as planned. The zero value is ready; it
// takes over whatever an earlier agent left.
type Filter struct {
	families []*family // set up by the first Apply
	changed  bool      // there may be sets that no rule refers to any more
}

// family is one of the two that iptables keeps apart.
type family struct {
	v6      bool
	nft     bool        // this iptables speaks to nftables
	ruleset nft.Ruleset // which it does then
	ipt     *iptables.IPTables
	applied string // text last given to iptables-restore
	shown   state  // what became of it
	print   string // the kernel's tables then
}

// Apply makes chains and sets match f, nil for none at all. It also tells the
// kernel that the agent lives: interception ends 3 s after the last call.
func (t *Filter) Apply(ctx context.Context, f *plan.Firewall) error {
	if err := t.open(ctx, f != nil); err != nil {
		return err
	}
	if f != nil {
		if err := keepSets(f); err != nil {
			return err // the rules would not load
		}
	}
	var errs []error
	for _, fam := range t.families {
		text := ""
		if f != nil {
			text = Text(*f, fam.v6)
		}
		changed, err := fam.apply(ctx, text)
		t.changed = t.changed || changed
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || !t.changed {
		return err
	}
	if err := dropSets(f); err != nil {
		return err
	}
	t.changed = false
	return nil
}

// open finds the commands. It is no error that there is none if nothing is
// wanted of it.
func (t *Filter) open(ctx context.Context, wanted bool) error {
	if t.families != nil {
		return nil
	}
	var families []*family
	for _, v6 := range []bool{false, true} {
		fam := &family{v6: v6}
		if _, err := os.Stat("/proc/sys/net/ipv6"); v6 && errors.Is(err, os.ErrNotExist) {
			continue // IPv6 is off
		}
		if _, err := exec.LookPath(fam.command("")); err != nil {
			if wanted {
				return err
			}
			continue
		}
		version, err := exec.Command(fam.command(""), "--version").Output()
		if err != nil {
			return fmt.Errorf("asking for the version of %s: %w", fam.command(""), err)
		}
		fam.nft = strings.Contains(string(version), "nf_tables")
		proto := iptables.ProtocolIPv4
		if v6 {
			proto = iptables.ProtocolIPv6
		}
		if fam.ipt, err = iptables.New(iptables.IPFamily(proto), iptables.Timeout(lockTimeout)); err != nil {
			return fmt.Errorf("opening %s: %w", fam.command(""), err)
		}
		families = append(families, fam)
	}
	if wanted {
		t.families = families
		return nil
	}
	for _, fam := range families {
		shown, err := fam.show(ctx)
		if err == nil {
			err = fam.drop(ctx, "", shown)
		}
		if err != nil {
			return err
		}
	}
	return dropSets(nil)
}

// lockTimeout is how many seconds another iptables may hold the lock.
const lockTimeout = 5

func (f *family) command(suffix string) string {
	if f.v6 {
		return "ip6tables" + suffix
	}
	return "iptables" + suffix
}

func (f *family) apply(ctx context.Context, text string) (changed bool, err error) {
	now, err := f.fingerprint()
	if err != nil {
		return false, fmt.Errorf("reading tables: %w", err)
	}
	if text == f.applied && now == f.print {
		return false, nil
	}
	shown, err := f.show(ctx)
	if err != nil {
		return false, err
	}
	if text == f.applied && shown.equal(f.shown) {
		f.print = now // what has changed is not ours
		return false, nil
	}
	f.applied = unknown
	if text != "" {
		if err = f.load(ctx, text, shown); err != nil {
			return true, err
		}
	}
	if err = f.drop(ctx, text, shown); err != nil {
		return true, err
	}
	if now, err = f.fingerprint(); err != nil {
		return true, fmt.Errorf("reading tables: %w", err)
	}
	if shown, err = f.show(ctx); err != nil {
		return true, err
	}
	// If not, somebody was there in the meantime, and the next call sees to it.
	if shown.is(text) {
		f.applied, f.shown, f.print = text, shown, now
	}
	return true, nil
}

// unknown is no text for iptables-restore.
const unknown = "\x00"

// load fills the chains and has each hooked in once. What is not wanted any more
// is no longer reached then.
func (f *family) load(ctx context.Context, text string, shown state) error {
	if err := f.restore(ctx, text); err != nil {
		return err
	}
	for _, h := range hooks {
		there := shown.hooked(h)
		if there == 1 || !declares(text, h.table, prefix+h.chain) {
			continue
		}
		// Where somebody has restored a saved ruleset there are two. -D takes the
		// first, which is the one in the right place, hence all go and one comes.
		hook := strings.Repeat(h.line("-D")+"\n", there) + h.line("-I")
		if err := f.restore(ctx, fmt.Sprintf("*%s\n%s\nCOMMIT\n", h.table, hook)); err != nil {
			return fmt.Errorf("hooking into %s: %w", h.chain, err)
		}
	}
	return nil
}

// restore makes the chains that a text declares, empties those that are there,
// and does what else the text says, one transaction a table.
func (f *family) restore(ctx context.Context, text string) error {
	_, err := f.run(ctx, text, "-restore", "--noflush", fmt.Sprintf("--wait=%d", lockTimeout))
	return err
}

// drop takes chains and hooks away that a text does not declare, hooks first, in
// the reverse order. A chain to which a rule of somebody else leads cannot go
// before that rule, which is not ours to delete: it stays, and does nothing.
func (f *family) drop(ctx context.Context, text string, shown state) error {
	var errs []error
	for _, h := range slices.Backward(hooks) {
		if declares(text, h.table, prefix+h.chain) {
			continue
		}
		for range shown.hooked(h) {
			if err := f.ipt.Delete(h.table, h.chain, "-j", prefix+h.chain); err != nil {
				errs = append(errs, fmt.Errorf("unhooking from %s: %w", h.chain, err))
			}
		}
	}
	for table, lines := range shown {
		var empty, remove strings.Builder // they refer to each other
		for _, line := range lines {
			c, ok := strings.CutPrefix(line, ":")
			if !ok || declares(text, table, c) {
				continue
			}
			fmt.Fprintf(&empty, ":%s - [0:0]\n", c)
			if !slices.Contains(lines, foreign+c) {
				fmt.Fprintf(&remove, "-X %s\n", c)
			}
		}
		if empty.Len() > 0 {
			errs = append(errs, f.restore(ctx, fmt.Sprintf("*%s\n%s%sCOMMIT\n", table, &empty, &remove)))
		}
	}
	return errors.Join(errs...)
}

// state is what the kernel has of ours, by table: our chains with a colon
// before their names, their rules, the hooks, and for each rule of somebody
// else that leads to one of our chains, foreign and the chain's name.
type state map[string][]string

const foreign = "-j "

// jump is how a rule ends that leads to one of our chains. At the end of a
// comment there would be a quotation mark behind it.
var jump = regexp.MustCompile(` -[jg] ` + prefix + `([^\s"]+)$`)

// show reads the state. Listing tables one by one would have legacy iptables
// load those that nobody uses.
func (f *family) show(ctx context.Context) (state, error) {
	all, err := f.run(ctx, "", "-save")
	if err != nil {
		return nil, err
	}
	s := make(state)
	table := ""
	for line := range strings.Lines(all) {
		line = strings.TrimSpace(line)
		switch to := jump.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"+prefix):
			name, _, _ := strings.Cut(line, " ")
			s[table] = append(s[table], name)
		case strings.HasPrefix(line, "-A "+prefix):
			s[table] = append(s[table], line)
		case to != nil:
			if !isHook(table, line) {
				line = foreign + prefix + to[1]
			}
			s[table] = append(s[table], line)
		}
	}
	return s, nil
}

// isHook says whether a rule is one of the hooks.
func isHook(table, line string) bool {
	for _, h := range hooks {
		if h.table == table && h.line("-A") == line {
			return true
		}
	}
	return false
}

// hooked counts a hook's copies.
func (s state) hooked(h hook) (n int) {
	for _, line := range s[h.table] {
		if line == h.line("-A") {
			n++
		}
	}
	return n
}

// is says whether all chains are there with as many rules as a text has, and
// the hooks that lead to them.
func (s state) is(text string) bool {
	chains, rules := strings.Count(text, "\n:"), strings.Count(text, "\n-A ")
	for _, h := range hooks {
		if declares(text, h.table, prefix+h.chain) {
			rules++
		}
	}
	for table, lines := range s {
		for _, l := range lines {
			switch c, ok := strings.CutPrefix(l, ":"); {
			case ok && !declares(text, table, c) && slices.Contains(lines, foreign+c): // drop leaves it
			case ok:
				chains--
			case !strings.HasPrefix(l, foreign):
				rules--
			}
		}
	}
	return chains == 0 && rules == 0
}

func (s state) equal(o state) bool { return maps.EqualFunc(s, o, slices.Equal[[]string]) }

// Error is a command that went wrong.
type Error struct {
	Command string
	Err     error
	Output  string
}

func (e *Error) Error() string {
	said, _, _ := strings.Cut(strings.TrimSpace(e.Output), "\n")
	return fmt.Sprintf("running %s: %v: %s", e.Command, e.Err, said)
}

func (e *Error) Unwrap() error { return e.Err }

func (f *family) run(ctx context.Context, input, suffix string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, f.command(suffix), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", &Error{f.command(suffix), err, errs.String()}
	}
	return out.String(), nil
}
