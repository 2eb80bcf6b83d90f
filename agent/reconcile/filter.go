// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"braid/agent/dnsmasq"
	"braid/agent/kernel/firewall/iptables"
	"braid/agent/kernel/firewall/nft"
	"braid/agent/plan"
)

// Filter is a packet filter that can be programmed. Apply(ctx, nil) takes
// everything away; Apply is called once a second, and whenever something has
// changed.
type Filter interface {
	Apply(ctx context.Context, f *plan.Firewall) error
}

const (
	nftables     = "nftables"
	iptablesName = "iptables"
)

// filters are all there are, of which one is in use.
type filters struct {
	name   string // of the one in use
	choice string // what it was chosen by
	swept  bool   // there is nothing of ours, and none in use
	nft    nft.Filter
	xt     iptables.Filter
}

// apply programs the filter that choice names, or the one in use if it names
// none. The other one is swept when that changes, and at the start: an agent
// that was killed may have had another.
func (s *filters) apply(ctx context.Context, choice string, f *plan.Firewall) error {
	switch {
	case f == nil && s.swept:
		return nil
	case f == nil && s.name != "":
		return s.inUse().Apply(ctx, nil)
	case f == nil:
		// Whatever an earlier agent used.
		err := errors.Join(s.sweep(ctx, nftables), s.sweep(ctx, iptablesName))
		s.swept = err == nil
		return err
	}
	s.swept = false
	if s.name == "" || choice != s.choice {
		name := choice
		if name != nftables && name != iptablesName {
			name = nftables
			if nft.Available(ctx) != nil {
				name = iptablesName
			}
			if err := ctx.Err(); err != nil { // which is why
				return fmt.Errorf("choosing a packet filter: %w", err)
			}
		}
		other := map[string]string{nftables: iptablesName, iptablesName: nftables}[name]
		if err := s.sweep(ctx, other); err != nil {
			return fmt.Errorf("leaving %s: %w", other, err)
		}
		s.name, s.choice = name, choice
	}
	err := s.inUse().Apply(ctx, f)
	if err != nil && s.name == iptablesName && s.choice != s.name {
		s.choice = "" // choose again: nftables may be there by now
	}
	return err
}

// domains is what dnsmasq is to be told, so that it fills the sets of rules by
// domain.
func (s *filters) domains(f *plan.Firewall) ([]string, error) {
	if f == nil {
		return nil, nil
	}
	option, sets := "nftset", nft.Sets
	if s.name == iptablesName {
		option, sets = "ipset", iptables.Sets
	}
	var names []dnsmasq.Names
	for _, r := range f.Rules {
		names = append(names, dnsmasq.Names{Domains: r.Domains, Sets: sets(r.Name)})
	}
	return dnsmasq.Lines(option, names)
}

// InDomains says whether an address is among those of a rule's domains, in the
// packet filter of that name.
func InDomains(ctx context.Context, filter, rule string, a netip.Addr) (bool, error) {
	if filter == iptablesName {
		return iptables.InDomains(rule, a)
	}
	return nft.InDomains(ctx, rule, a)
}

// AddUnreached has connections to a server forwarded for a while instead of taken.
func (r *Reconciler) AddUnreached(dest netip.AddrPort, d time.Duration) error {
	switch r.filter.name {
	case nftables:
		return nft.AddUnreached(dest, d)
	case iptablesName:
		return iptables.AddUnreached(dest, d)
	}
	return nil
}

// IsUnreached says whether connections to a server are forwarded now, in the packet
// filter of that name.
func IsUnreached(ctx context.Context, filter string, dest netip.AddrPort) (bool, error) {
	if filter == iptablesName {
		return iptables.IsUnreached(dest)
	}
	return nft.IsUnreached(ctx, dest)
}

func (s *filters) inUse() Filter {
	if s.name == iptablesName {
		return &s.xt
	}
	return &s.nft
}

// sweep takes away what is ours of a filter, which need not be there.
func (s *filters) sweep(ctx context.Context, name string) error {
	if name == iptablesName {
		return s.xt.Apply(ctx, nil)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return nil
	}
	return s.nft.Apply(ctx, nil)
}
