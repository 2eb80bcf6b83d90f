// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the kernel to where a plan wants it: what is
// missing is added, what is ours and no longer wanted is taken away. The empty
// plan is the teardown.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"syscall"

	"braid/agent/dnsmasq"
	"braid/agent/kernel/conntrack"
	"braid/agent/kernel/mptcppm"
	"braid/agent/kernel/route"
	"braid/agent/kernel/sysctl"
	"braid/agent/plan"
	"braid/transport/mptcp"
)

// Reconciler applies plans, one at a time.
type Reconciler struct {
	file      string // of the keeper
	keeper    *sysctl.Keeper
	filter    filters
	names     *dnsmasq.Server // nil: it is not ours to tell
	abandoned bool            // see Abandoned
	flows     conntrack.Sweeper
	last      plan.Plan // that was applied, and
	sure      bool      // what it says of routing and settings is so, as far as the kernel tells
}

// New makes a reconciler that keeps in dir what the kernel's settings were
// before, so that a successor can put them back should this process be
// killed. Each network namespace has a file of its own there.
func New(dir string) (*Reconciler, error) {
	ns, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	r := &Reconciler{file: filepath.Join(dir, fmt.Sprintf("originals-%d", inode(ns))), flows: conntrack.Sweeper{EndedC: make(chan struct{}, 1)}}
	// In a namespace of its own an agent has nothing to say to the system's.
	if first, err := os.Stat("/proc/1/ns/net"); err == nil && os.SameFile(first, ns) {
		r.names = dnsmasq.OpenWrt()
	}
	return r, r.Resume()
}

// Ended receives when something that Apply had begun has ended, and Apply may
// have something to do again.
func (r *Reconciler) Ended() <-chan struct{} { return r.flows.EndedC }

// Kept lists hosts and servers that keep their WAN, as the last sweep of
// connection tracking has found.
func (r *Reconciler) Kept() []plan.Kept { return r.flows.Kept() }

// Abandoned says whether nothing starts any more from the addresses that were lost by the
// last plan.
func (r *Reconciler) Abandoned() bool { return r.abandoned }

// Resume takes up the work after another process may have done it for a while:
// what that one has left in the kernel is known only from the file.
func (r *Reconciler) Resume() error {
	keeper, err := sysctl.Open(r.file)
	if err != nil {
		return err
	}
	r.keeper, r.filter, r.sure = keeper, filters{}, false
	return nil
}

// Recheck has the next Apply look at routes, rules and settings, which need not be as
// it has left them. It does not look each time: of routes and rules the kernel tells
// when somebody changes them, and settings are changed seldom.
func (r *Reconciler) Recheck() { r.sure = false }

// Relieve has lines that have stood by until now stand in for those that the
// plan which is to be applied next lets go, and says whether there are any.
func (r *Reconciler) Relieve(p, before plan.Plan) (bool, error) {
	eps := p.Relief(before)
	return len(eps) > 0, mptcppm.Relieve(eps)
}

// Remake has connections that lack a subflow from the plan's endpoint of an id
// get it again.
func (r *Reconciler) Remake(p plan.Plan, id uint8) error {
	for _, e := range p.Endpoints {
		if e.ID == id {
			return mptcppm.Remake(e)
		}
	}
	return nil
}

// Apply applies a plan. A step that fails does not keep the others from being
// taken; Apply may be called again until all succeed.
func (r *Reconciler) Apply(ctx context.Context, p plan.Plan) error {
	// First of all, because open connections wait for it: the peers of an
	// endpoint that goes are told to send over the others.
	var errs []error
	if !slices.Equal(p.Endpoints, r.last.Endpoints) {
		errs = append(errs, mptcppm.Withdraw(p.Endpoints))
	}
	sure := r.sure && reflect.DeepEqual(settled(p), settled(r.last))
	r.sure = true
	seldom := func(step func() error) func() error {
		return func() error {
			if sure {
				return nil
			}
			err := step()
			r.sure = r.sure && err == nil
			return err
		}
	}
	steps := []func() error{
		seldom(func() error { return present(r.keeper.Apply(p.Sysctls)) }),
		seldom(func() error { return route.Apply(p.Routes, p.Rules) }),
		// Before endpoints: what joins send without translation stays without.
		func() error { return r.filter.apply(ctx, string(p.Filter), p.Firewall) },
		func() error { return r.tellNames(ctx, p) },
		seldom(func() error { return mptcppm.Apply(r.keeper, p.Endpoints, p.Limits) }),
		func() error {
			if !sure {
				return nil
			}
			return mptcppm.Keep(p.Endpoints)
		},
		func() error { return r.flows.Apply(p.Flows) }, // nothing makes stale entries any more
		func() error {
			err := abandon(p.Lost)
			r.abandoned = err == nil
			return err
		},
	}
	if p.Firewall == nil {
		// What brings us packets goes before what carries them.
		slices.Reverse(steps)
	}
	for _, step := range steps {
		errs = append(errs, step())
	}
	r.last = p
	return errors.Join(errs...)
}

// settled is what of a plan is looked over seldom.
func settled(p plan.Plan) any {
	return plan.Plan{Sysctls: p.Sysctls, Routes: p.Routes, Rules: p.Rules, Limits: p.Limits}
}

// abandon ends what this host has open from addresses that it has no more, where
// the kernel can do that: OpenWrt's cannot.
func abandon(addrs []netip.Addr) error {
	if len(addrs) == 0 || !canDestroy() {
		return nil
	}
	for _, a := range addrs {
		if _, err := mptcp.DestroyFrom(a); err != nil {
			return err
		}
	}
	return nil
}

// canDestroy is found out once: where a module is missing, the kernel runs a
// program to look for it each time that it is asked.
var canDestroy = sync.OnceValue(func() bool { return mptcp.CanDestroy() == nil })

// tellNames has dnsmasq fill the sets of rules by domain. That no WAN works for
// a while is no reason to take it back, but the sets are gone.
func (r *Reconciler) tellNames(ctx context.Context, p plan.Plan) error {
	if r.names == nil {
		return nil
	}
	if p.Firewall == nil && len(p.WANs) > 0 {
		r.names.Refill()
		return nil
	}
	lines, err := r.filter.domains(p.Firewall)
	return errors.Join(err, r.names.Apply(ctx, lines))
}

// Firewall is the packet filter in use: "nftables", "iptables" or, before one
// has been programmed, "".
func (r *Reconciler) Firewall() string { return r.filter.name }

// present drops the errors of settings that this kernel does not have.
func present(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var rest []error
	for _, err := range joined.Unwrap() {
		if !errors.Is(err, os.ErrNotExist) {
			rest = append(rest, err)
		}
	}
	return errors.Join(rest...)
}

func inode(fi os.FileInfo) uint64 {
	return fi.Sys().(*syscall.Stat_t).Ino
}
