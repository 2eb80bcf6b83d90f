// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"braid/agent/plan"
	"braid/transport/journal"
)

const (
	// DevicePrefix begins the names of our translators' devices.
	DevicePrefix = "braid-clat"
	// retry is when what failed is tried again.
	retry = 10 * time.Second
)

// Supervisor looks for the NAT64 of networks that have IPv6 alone, and runs a
// translator for each that has one.
type Supervisor struct {
	log      *journal.Log
	changedC chan struct{}
	wakeC    chan struct{}

	mu      sync.Mutex
	targets []plan.IPv6Only
	taken   []netip.Addr          // addresses that others have
	chosen  map[string]netip.Addr // by WAN, those that are tried or in use
	open    map[string]plan.CLAT  // by WAN
}

// NewSupervisor makes a supervisor that looks after nothing yet.
func NewSupervisor(log *journal.Log) *Supervisor {
	return &Supervisor{log: log, changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1),
		chosen: make(map[string]netip.Addr), open: make(map[string]plan.CLAT)}
}

// Changed receives when another set of translators runs.
func (c *Supervisor) Changed() <-chan struct{} { return c.changedC }

// List is what translates now, by WAN.
func (c *Supervisor) List() map[string]plan.CLAT {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.open)
}

// SetTargets says which WANs have IPv6 alone, and which addresses are no
// longer free.
func (c *Supervisor) SetTargets(targets []plan.IPv6Only, taken []netip.Addr) {
	c.mu.Lock()
	changed := !reflect.DeepEqual(targets, c.targets)
	c.targets, c.taken = targets, taken
	c.mu.Unlock()
	if changed {
		hint(c.wakeC)
	}
}

// Run follows the targets until ctx ends; then no translator is left.
func (c *Supervisor) Run(ctx context.Context) error {
	type search struct {
		target plan.IPv6Only
		stop   func()
	}
	var searches []search
	for ctx.Err() == nil {
		c.mu.Lock()
		targets := slices.Clone(c.targets)
		c.mu.Unlock()
		searches = slices.DeleteFunc(searches, func(s search) bool {
			i := slices.IndexFunc(targets, func(t plan.IPv6Only) bool { return reflect.DeepEqual(t, s.target) })
			if i < 0 {
				s.stop()
				return true
			}
			targets = slices.Delete(targets, i, i+1)
			return false
		})
		for _, t := range targets {
			searches = append(searches, search{t, background(ctx, func(ctx context.Context) { c.search(ctx, t) })})
		}
		select {
		case <-ctx.Done():
		case <-c.wakeC:
		}
	}
	for _, s := range searches {
		s.stop()
	}
	return nil
}

// background runs f; stop ends its context and waits for it.
func background(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		f(ctx)
	}()
	return func() {
		cancel()
		<-doneC
	}
}

// search keeps a translator for what a network tells of its NAT64.
func (c *Supervisor) search(ctx context.Context, t plan.IPv6Only) {
	c.insist(ctx, t, func() error {
		f, err := NewFinder(ctx, Access{Device: t.Device, Servers: t.DNS})
		if err != nil {
			return err
		}
		stop := func() {}
		defer func() { stop() }()
		// What DNS has answered last is no error here: most networks have none.
		_ = f.Run(ctx, func(n NAT64) {
			c.log.Info("nat64", "wan", t.WAN, "prefix", n.Prefix, "origin", n.Origin)
			stop()
			stop = func() {}
			if n.Prefix.IsValid() {
				stop = background(ctx, func(ctx context.Context) {
					defer c.release(t.WAN)
					c.insist(ctx, t, func() error { return c.translate(ctx, t, n.Prefix) })
				})
			}
		})
		return nil
	})
}

// insist repeats what fails until ctx ends, and logs another error than the
// last.
func (c *Supervisor) insist(ctx context.Context, t plan.IPv6Only, f func() error) {
	last, since := "", time.Time{}
	for {
		err := f()
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != last {
			last, since = text, time.Now()
			if err != nil {
				c.log.Error("IPv4 over IPv6", "wan", t.WAN, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter(err, time.Since(since))):
		}
	}
}

// retryAfter is sooner where the device is that of an agent which is about to
// end: it gives it up once it sees us, and nothing is translated until we have it.
func retryAfter(err error, failing time.Duration) time.Duration {
	if errors.Is(err, syscall.EBUSY) {
		return min(max(50*time.Millisecond, failing/8), time.Second)
	}
	return retry
}

// translate runs a translator until ctx ends or its device is lost.
func (c *Supervisor) translate(ctx context.Context, t plan.IPv6Only, prefix netip.Prefix) error {
	p, err := c.reserve(t, prefix)
	if err != nil {
		return err
	}
	translator, err := Open(Config{Device: p.Device, WAN: t.Device, Prefix: p.Prefix, IPv4: p.IPv4})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.open[t.WAN] = p
	c.mu.Unlock()
	hint(c.changedC)
	defer func() {
		c.mu.Lock()
		delete(c.open, t.WAN)
		c.mu.Unlock()
		hint(c.changedC)
	}()
	return translator.Run(ctx)
}

// release gives back the address that reserve has chosen.
func (c *Supervisor) release(wan string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.chosen, wan)
}

// reserve chooses device and address, the same for the same WAN until release.
func (c *Supervisor) reserve(t plan.IPv6Only, prefix netip.Prefix) (plan.CLAT, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := slices.Clone(c.taken)
	for wan, a := range c.chosen {
		if wan != t.WAN {
			taken = append(taken, a)
		}
	}
	a, err := Address(t.Index, taken)
	if err != nil {
		return plan.CLAT{}, err
	}
	c.chosen[t.WAN] = a
	return plan.CLAT{Device: fmt.Sprintf("%s%d", DevicePrefix, t.Index), IPv4: a, Prefix: prefix, Inner: Inner(a)}, nil
}

func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
