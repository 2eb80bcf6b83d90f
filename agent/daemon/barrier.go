// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"slices"
	"time"

	"braid/agent/config"
	"braid/agent/forward"
	"braid/agent/plan"
	"braid/onpath/nft"
)

const (
	// legacyInterval is how often it is asked whether there are tables that nothing
	// tells of changes in; where there are, the firewall's rules are read again.
	legacyInterval = 10 * time.Second
	// barrierShare bounds the reading, of rules that others change all the time, to
	// one part in so many of the time.
	barrierShare = 50
)

// barriers knows which WANs the firewall keeps the LAN from, and which
// connections it has to forward itself.
type barriers struct {
	lan, wan []string
	ruleset  nft.Ruleset
	gen      uint32 // of the ruleset, and
	print    uint64 // what others' part of it looked like, when it was read
	at       time.Time
	sought   time.Time // when it was last asked for tables that nothing tells of changes in
	took     time.Duration
	failed   bool // the last reading has; it is tried again
	barred   map[plan.Barrier]bool
	helped   []config.PortRange
}

// look reads the firewall's rules if devices or rules are others than before:
// within a second, and without a process for what changes beside them. Where
// they cannot be read, what was known holds for the same devices.
func (b *barriers) look(ctx context.Context, lan, wan []string) error {
	same := slices.Equal(lan, b.lan) && slices.Equal(wan, b.wan)
	pause := barrierShare * b.took
	if b.failed {
		pause = min(pause, legacyInterval)
	}
	if same && time.Since(b.at) < pause {
		return nil
	}
	gen, print, news := b.news()
	if same && !news && !b.failed {
		b.gen = gen
		return nil
	}
	began := time.Now()
	rules, err := forward.Read(ctx, lan, wan)
	b.at, b.took = time.Now(), time.Since(began)
	b.lan, b.wan = lan, wan
	if b.failed = err != nil; b.failed {
		if !same {
			b.barred, b.helped = nil, nil
		}
		return err
	}
	b.gen, b.print = gen, print
	b.barred, b.helped = make(map[plan.Barrier]bool), nil
	for _, p := range rules.Helpers {
		b.helped = append(b.helped, config.PortRange(p))
	}
	for _, out := range wan {
		for _, v6 := range []bool{false, true} {
			drops := len(lan) > 0
			for _, in := range lan {
				drops = drops && rules.Verdicts[forward.Flow{In: in, Out: out, IPv6: v6}] == forward.Drops
			}
			if drops {
				b.barred[plan.Barrier{Device: out, IPv6: v6}] = true
			}
		}
	}
	return nil
}

// news says whether the rules may be others than those that were read, and by
// what they are known now.
func (b *barriers) news() (gen uint32, print uint64, news bool) {
	gen, err := b.ruleset.Generation()
	switch {
	case err == nil && gen == b.gen:
		print = b.print
	case err == nil:
		print, err = forward.Print()
	}
	news = print != b.print
	if time.Since(b.sought) >= legacyInterval {
		b.sought = time.Now()
		news = news || err != nil || forward.Legacy()
	}
	return gen, print, news
}
