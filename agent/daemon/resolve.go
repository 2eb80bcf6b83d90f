// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"braid/agent/config"
	"braid/transport/journal"
)

const (
	// resolveInterval is how often names are looked up again, retryInterval how
	// soon after a failure.
	resolveInterval = 5 * time.Minute
	retryInterval   = 5 * time.Second
	resolveTimeout  = 10 * time.Second
)

// resolver looks up the host names of converters. Addresses that were found
// once hold until others are: a converter does not go away with its DNS.
type resolver struct {
	log      *journal.Log
	changedC chan struct{}
	wakeC    chan struct{}

	mu    sync.Mutex
	names []string
	addrs map[string][]netip.Addr
}

func newResolver(log *journal.Log) *resolver {
	return &resolver{log: log, changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), addrs: make(map[string][]netip.Addr)}
}

// set says which names the configuration has.
func (r *resolver) set(c config.Config) {
	var names []string
	for _, conv := range c.Converters {
		for _, h := range conv.Addresses {
			if h.Name != "" && !slices.Contains(names, h.Name) {
				names = append(names, h.Name)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(names, r.names) {
		return
	}
	r.names = names
	hint(r.wakeC)
}

// resolved are the addresses found so far, by name.
func (r *resolver) resolved() map[string][]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.addrs)
}

func (r *resolver) run(ctx context.Context) error {
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

func (r *resolver) lookup(ctx context.Context, name string) error {
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
	hint(r.changedC)
	return nil
}
