// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/transport/journal"
)

const (
	// resolveInterval is how often names are looked up again, retryInterval how
	// soon after a failure.
	resolveInterval = 5 * time.Minute
	retryInterval   = 5 * time.Second
	resolveTimeout  = 10 * time.Second
)

// Resolver looks up the host names of converters. Addresses that were found
// once hold until others are: a converter does not go away with its DNS.
type Resolver struct {
	log      *journal.Log
	changedC chan struct{}
	wakeC    chan struct{}

	mu    sync.Mutex
	names []string
	addrs map[string][]netip.Addr
}

// NewResolver makes a resolver that has no names yet.
func NewResolver(log *journal.Log) *Resolver {
	return &Resolver{log: log, changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), addrs: make(map[string][]netip.Addr)}
}

// Changed receives when other addresses have been found.
func (r *Resolver) Changed() <-chan struct{} { return r.changedC }

// SetNames says which names are to be looked up.
func (r *Resolver) SetNames(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(names, r.names) {
		return
	}
	r.names = names
	wake(r.wakeC)
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
		names := r.names
		r.mu.Unlock()
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

func (r *Resolver) lookup(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, netip.Addr.Compare) // IPv4 first, and the same each time
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
