// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"braid/agent/clat"
	"braid/agent/config"
	"braid/agent/netstate"
	"braid/agent/plan"
	"braid/transport/journal"
)

const (
	// clatDevice begins the names of our translators' devices.
	clatDevice = "braid-clat"
	// clatRetry is when what failed is tried again.
	clatRetry = 10 * time.Second
)

// clats looks for the NAT64 of networks that have IPv6 alone, and runs a
// translator for each that has one.
type clats struct {
	log      *journal.Log
	changedC chan struct{}
	wakeC    chan struct{}

	mu      sync.Mutex
	targets []plan.IPv6Only
	taken   []netip.Addr         // addresses that others have
	open    map[string]plan.CLAT // by WAN
}

func newCLATs(log *journal.Log) *clats {
	return &clats{log: log, changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), open: make(map[string]plan.CLAT)}
}

// list is what translates now, by WAN.
func (c *clats) list() map[string]plan.CLAT {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.open)
}

// setTargets says which WANs have IPv6 alone, and which addresses are no
// longer free.
func (c *clats) setTargets(targets []plan.IPv6Only, taken []netip.Addr) {
	c.mu.Lock()
	changed := !reflect.DeepEqual(targets, c.targets)
	c.targets, c.taken = targets, taken
	c.mu.Unlock()
	if changed {
		hint(c.wakeC)
	}
}

// run follows the targets until ctx ends; then no translator is left.
func (c *clats) run(ctx context.Context) error {
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
func (c *clats) search(ctx context.Context, t plan.IPv6Only) {
	c.insist(ctx, t, func() error {
		f, err := clat.NewFinder(ctx, clat.Access{Device: t.Device, Servers: t.DNS})
		if err != nil {
			return err
		}
		stop := func() {}
		defer func() { stop() }()
		// What DNS has answered last is no error here: most networks have none.
		_ = f.Run(ctx, func(n clat.NAT64) {
			c.log.Info("nat64", "wan", t.WAN, "prefix", n.Prefix, "origin", n.Origin)
			stop()
			stop = func() {}
			if n.Prefix.IsValid() {
				stop = background(ctx, func(ctx context.Context) {
					c.insist(ctx, t, func() error { return c.translate(ctx, t, n.Prefix) })
				})
			}
		})
		return nil
	})
}

// insist repeats what fails until ctx ends, and logs another error than the
// last.
func (c *clats) insist(ctx context.Context, t plan.IPv6Only, f func() error) {
	last := ""
	for {
		err := f()
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); err != nil && text != last {
			c.log.Error("IPv4 over IPv6", "wan", t.WAN, "error", err)
			last = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter(err)):
		}
	}
}

// retryAfter is sooner where the device is that of an agent which is about to
// end: it gives it up once it sees us.
func retryAfter(err error) time.Duration {
	if errors.Is(err, syscall.EBUSY) {
		return time.Second
	}
	return clatRetry
}

// translate runs a translator until ctx ends or its device is lost.
func (c *clats) translate(ctx context.Context, t plan.IPv6Only, prefix netip.Prefix) error {
	p, err := c.reserve(t, prefix)
	if err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		delete(c.open, t.WAN)
		c.mu.Unlock()
		hint(c.changedC)
	}()
	translator, err := clat.Open(clat.Config{Device: p.Device, WAN: t.Device, Prefix: p.Prefix, IPv4: p.IPv4})
	if err != nil {
		return err
	}
	hint(c.changedC)
	return translator.Run(ctx)
}

// reserve chooses device and address.
func (c *clats) reserve(t plan.IPv6Only, prefix netip.Prefix) (plan.CLAT, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := slices.Clone(c.taken)
	for _, o := range c.open {
		taken = append(taken, o.IPv4)
	}
	a, err := clat.Address(t.Index, taken)
	if err != nil {
		return plan.CLAT{}, err
	}
	p := plan.CLAT{Device: fmt.Sprintf("%s%d", clatDevice, t.Index), IPv4: a, Prefix: prefix, Inner: clat.Inner(a)}
	c.open[t.WAN] = p
	return p, nil
}

// translate has the WANs with IPv6 alone looked after, where the kernel
// forwards what is translated.
func (l *loop) translate(targets []plan.IPv6Only, net netstate.Snapshot) (problems config.Problems) {
	if len(targets) == 0 {
		l.clats.setTargets(nil, nil)
		return nil
	}
	if !clat.Forwarding() {
		for _, t := range targets {
			problems = append(problems, config.Problem{Section: t.WAN, Warning: true,
				Message: "no IPv4 by way of a NAT64: net.ipv6.conf.all.forwarding is 0"})
		}
		targets = nil
	}
	var taken []netip.Addr
	for _, link := range net.Links {
		if strings.HasPrefix(link.Name, clatDevice) {
			continue
		}
		for _, a := range link.Addrs {
			taken = append(taken, a.Prefix.Addr())
		}
	}
	l.clats.setTargets(targets, taken)
	return problems
}
