// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"braid/agent/config"
	"braid/transport/journal"
)

const (
	// resolveInterval is how often names are looked up again, retryInterval how
	// soon after a failure, and while a converter of that name is not there: it
	// may have moved.
	resolveInterval = 5 * time.Minute
	retryInterval   = 5 * time.Second
	resolveTimeout  = 10 * time.Second
)

// Resolver looks up the host names of converters. Addresses that were found
// once hold until others are: a converter does not go away with its DNS.
type Resolver struct {
	log      *journal.Log
	dns      *net.Resolver
	changedC chan struct{}
	wakeC    chan struct{}

	mu       sync.Mutex
	names    []string
	lost     []string // of them, whose addresses lead nowhere
	domains  []string
	addrs    map[string][]netip.Addr
	services map[string][]config.Service // by domain
}

// NewResolver makes a resolver that has no names yet.
func NewResolver(log *journal.Log) *Resolver {
	return &Resolver{log: log, dns: net.DefaultResolver, changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), addrs: make(map[string][]netip.Addr),
		services: make(map[string][]config.Service)}
}

// Changed receives when other addresses have been found.
func (r *Resolver) Changed() <-chan struct{} { return r.changedC }

// Set says which names of hosts are to be looked up, those of converters that
// are lost at once, and which domains are to be asked for their converters.
func (r *Resolver) Set(names, lost, domains []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := slices.Equal(names, r.names) && slices.Equal(domains, r.domains) &&
		!slices.ContainsFunc(lost, func(name string) bool { return !slices.Contains(r.lost, name) })
	r.names, r.lost, r.domains = names, lost, domains
	if !same {
		wake(r.wakeC)
	}
}

// Services are the converters of domains found so far, in the order in which
// they are to be tried.
func (r *Resolver) Services() map[string][]config.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.services)
}

// Resolved are the addresses found so far, by name.
func (r *Resolver) Resolved() map[string][]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.addrs)
}

// Run looks names up until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	for {
		wait := resolveInterval
		r.mu.Lock()
		names, domains := r.names, r.domains
		if len(r.lost) > 0 {
			wait = retryInterval
		}
		r.mu.Unlock()
		for _, domain := range domains {
			if err := r.lookupServices(ctx, domain); err != nil && ctx.Err() == nil {
				r.log.Warn("looking up converters", "domain", domain, "error", err)
				wait = retryInterval
			}
		}
		for _, name := range names {
			if err := r.lookup(ctx, name); err != nil && ctx.Err() == nil {
				r.log.Warn("looking up converter", "name", name, "error", err)
				wait = retryInterval
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wakeC:
		case <-time.After(wait):
		}
	}
}

// Locate asks a domain for its converters (RFC 8803 section 10.1), of which it has at
// least one. Among those of one priority chance and their weights decide (RFC 2782).
func (r *Resolver) Locate(ctx context.Context, domain string) ([]config.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	_, records, err := r.dns.LookupSRV(ctx, "convert", "tcp", domain)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 { // an alias of what has none
		return nil, errors.New(domain + " has no converter")
	}
	var found []config.Service
	for _, s := range records {
		found = append(found, config.Service{Host: strings.ToLower(strings.TrimSuffix(s.Target, ".")), Port: s.Port, Priority: s.Priority})
	}
	return found, nil
}

// lookupServices looks for a domain's converters, whose order holds as long as the DNS
// says the same.
func (r *Resolver) lookupServices(ctx context.Context, domain string) error {
	found, err := r.Locate(ctx, domain)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sameServices(r.services[domain], found) {
		return nil
	}
	r.services[domain] = found
	r.log.Info("converters", "domain", domain, "found", found)
	wake(r.changedC)
	return nil
}

func sameServices(a, b []config.Service) bool {
	if len(a) != len(b) {
		return false
	}
	for _, s := range a {
		if !slices.Contains(b, s) {
			return false
		}
	}
	return true
}

func (r *Resolver) lookup(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := r.dns.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Less(found[j]) }) // IPv4 first, and the same each time
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(r.addrs[name], found) {
		return nil
	}
	r.addrs[name] = found
	r.log.Info("converter", "name", name, "addresses", found)
	wake(r.changedC)
	return nil
}
