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

// barrierInterval is how often the firewall's rules are read again at the most,
// and how often where they have no generation to tell of changes.
const barrierInterval = 10 * time.Second

// barriers knows which WANs the firewall keeps the LAN from, and which
// connections it has to forward itself.
type barriers struct {
	lan, wan []string
	gen      uint32
	at       time.Time
	barred   map[plan.Barrier]bool
	helped   []config.PortRange
}

// look reads the firewall's rules if devices or rules are others than before.
// Where they cannot be read, what was known holds for the same devices.
func (b *barriers) look(ctx context.Context, lan, wan []string) error {
	same := slices.Equal(lan, b.lan) && slices.Equal(wan, b.wan)
	if same && time.Since(b.at) < barrierInterval {
		return nil
	}
	gen, err := nft.Generation()
	if same && err == nil && gen == b.gen && time.Since(b.at) < 6*barrierInterval {
		return nil
	}
	rules, err := forward.Read(ctx, lan, wan)
	b.at = time.Now()
	if err != nil {
		if !same {
			b.barred, b.helped = nil, nil
		}
		return err
	}
	b.lan, b.wan, b.gen = lan, wan, gen
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
