// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/health"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/netstate"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/reconcile"
	"braid/agent/uci"
	"braid/transport/mptcp"
)

const (
	// debounce lets the rest of a burst of events arrive.
	debounce = 10 * time.Millisecond
	// unseen is how long the network is believed to be as it was without a word
	// of the kernel's: its words may get lost, and reading it all each second
	// is what an agent at rest would do most.
	unseen = 10 * time.Second
	// applyTimeout bounds one reconciliation. The first one runs nft some times, which
	// takes seconds each on a router that is just booting.
	applyTimeout = 30 * time.Second
	// unreachedTime is for how long a server that could not be reached is left to its
	// hosts.
	unreachedTime = 5 * time.Minute
)

// loop is the one goroutine that changes the kernel. Whatever happens only
// wakes it; it reads everything anew and plans.
type loop struct {
	*Daemon
	reconciler *reconcile.Reconciler
	watcher    *netstate.Watcher
	pulse      *pulse
	ports      plan.Ports

	config    config.Config
	written   time.Time              // when the file was; zero: there was none
	overrides map[string]config.Role // until the file is written again
	problems  config.Problems        // of the configuration in the file
	net       netstate.Snapshot
	netAt     time.Time // when it was read; zero: it may have changed
	counters  netstate.Counters
	made      made
	plan      plan.Plan // that is in force
	barriers  barriers
	unhold    context.CancelFunc // nil: SYNs are not held
	extension *extension         // nil: connections of LAN hosts are not extended
	letGoC    chan struct{}      // they are not any more: the device was away
	failures  failures
	told      map[string]modem.Facts // what was last heeded, by WAN
	addresses addresses              // that WANs have had
	sampled   sampled                // what the history was last told

	// Hints of watch.
	beatC chan struct{} // a beat has passed
	heldC chan struct{} // other WANs are to be held back
}

func (l *loop) run(ctx context.Context, hup <-chan struct{}) {
	var settledC <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.watcher.Changed():
			l.netAt = time.Time{}
			if settledC == nil {
				settledC = time.After(debounce)
			}
			continue
		case <-settledC:
			settledC = nil
			before := l.net
			if err := l.look(); err == nil && l.net.Equal(before) {
				continue // what has changed is none of ours
			}
		case <-l.health.Changed():
		case <-l.converters.Changed():
		case <-l.resolver.Changed():
		case <-l.beatC:
			l.sampleRates()
			l.countQuotas()
			l.mend()
			l.forwardUnreached()
		case <-l.heldC:
		case <-hup:
			l.load(ctx)
		case r := <-l.requestC:
			r.do(ctx, l)
			l.update(ctx)
			close(r.doneC)
			continue
		case <-l.letGoC:
			l.letGo()
			continue // until the next beat: the device may still be away
		case <-l.netifd.Changed():
		case <-l.servers.Changed():
		case <-l.proxy.Crowded():
		case <-l.reconciler.Ended():
		case <-l.clats.Changed():
		case <-l.modems.Changed():
			l.heed()
		}
		l.update(ctx)
	}
}

// load reads the configuration; a bad one leaves the last good one in force.
func (l *loop) load(ctx context.Context) error {
	var written time.Time
	if i, err := os.Stat(filepath.Join(l.UCI, "braid")); err == nil {
		written = i.ModTime()
	}
	p, err := uci.Load(l.UCI, "braid")
	if errors.Is(err, fs.ErrNotExist) {
		p, err = uci.Package{}, nil // nothing is configured
	}
	var c config.Config
	var problems config.Problems
	if err != nil {
		problems = config.Problems{{Section: "braid", Message: err.Error()}}
	} else {
		c, problems = config.Parse(p)
		err = problems.Err()
	}
	if err != nil {
		l.log.Error("configuration not taken", "error", err)
	} else {
		if !written.Equal(l.written) {
			l.overrides = nil
		}
		l.config, l.written = c, written
		l.log.SetLevel(c.Globals.LogLevel)
		l.log.Info("configuration", "enabled", c.Globals.Enabled, "wans", len(c.WANs), "converters", len(c.Converters))
	}
	l.problems = problems
	l.notifyConfig(err == nil, problems)
	return err
}

// update brings the kernel to where configuration and network want it.
func (l *loop) update(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := l.look(); err != nil {
		l.complain(err)
		return
	}
	conf := l.config.WithServices(l.resolver.Services())
	known := l.converters.Known()
	l.resolver.Set(names(conf, nil), names(conf, known), domains(conf))
	in := plan.Input{Config: conf, Overrides: l.overrides, Net: l.net, Resolved: l.resolver.Resolved(), Health: l.health.Health(), Load: l.meter.Uses(),
		CLAT: l.clats.List(), Modems: l.modems.Facts(), Spent: l.spent(), Converters: known, Silent: l.servers.Silent(),
		Kept: l.reconciler.Kept(), Bulk: l.proxy.Bulk(time.Now()), Ports: l.ports}
	lan, wan := plan.Devices(in)
	if err := l.barriers.look(ctx, lan, wan); err != nil {
		l.log.Warn("reading what the firewall forwards", "error", err)
	}
	in.Barred, in.Helped = l.barriers.barred, l.barriers.helped
	in.Crowd.All, in.Crowd.Hosts = l.proxy.Crowd(time.Now())
	in.Lost = l.addresses.lost(l.net, time.Now())
	p, problems := l.make(in)
	problems = append(problems, l.translate(p.IPv6Only, l.net)...)
	if p.Network != nil {
		l.proxy.SetNetwork(p.Network)
	}
	if err := l.hold(p.Firewall); err != nil {
		p.Firewall.Late = false
		l.made = made{} // it is tried again
		problems = append(problems, config.Problem{Section: "globals", Option: "accept", Message: err.Error(), Warning: true})
	}
	leaving := leaving(l.plan.Endpoints, p.Endpoints)
	if len(leaving) > 0 {
		relieved, err := l.reconciler.Relieve(p, l.plan)
		l.complain(err) // Apply tries again
		if relieved {
			l.proxy.Guard.Await(leaving)
		}
		l.proxy.Guard.Settle(leaving)
	}
	err := l.reconciler.Apply(ctx, p)
	for _, e := range p.Narrowed(l.plan) {
		err = errors.Join(err, l.reconciler.Remake(p, e.ID))
	}
	p.Filter = config.Firewall(l.reconciler.Firewall()) // what auto has come to
	problems = append(problems, l.extend(p)...)
	if p.Firewall != nil {
		err = errors.Join(err, l.pulse.beat())
	} else {
		l.pulse.rest()
	}
	if fresh := l.complain(err); err != nil {
		problems = append(problems, config.Problem{Section: "kernel", Message: err.Error()})
		if fresh {
			l.netAt = time.Time{} // the network may be another than it was taken for
		}
	}
	// Not before there are routes from where they are asked.
	if p.Network != nil {
		l.converters.SetTargets(converter.Targets(p.Network))
	}
	l.health.SetTargets(p.Probes)
	l.servers.SetTargets(p.Nameservers)
	l.meter.Watch(lines(l.config, p, in.Health))
	l.modems.SetTargets(p.Modems)
	l.addresses.note(p, l.reconciler.Abandoned())
	l.plan = p
	for _, told := range l.view.Show(conf, p, slices.Concat(l.problems, problems)) {
		e := told.Entry()
		l.log.Info(e.Type, "name", e.Name, "from", e.From, "to", e.To, "reason", e.Reason)
		l.send(told)
	}
}

// made is a plan, and what it follows from.
type made struct {
	in       plan.Input
	plan     plan.Plan
	problems config.Problems
}

// make plans, unless all is as it was when that was last done.
func (l *loop) make(in plan.Input) (plan.Plan, config.Problems) {
	if !reflect.DeepEqual(in, l.made.in) {
		p, problems := plan.Make(in)
		l.made = made{in, p, slices.Clip(problems)}
	}
	return l.made.plan, l.made.problems
}

// look reads the network if it may have changed, with what is ours of it.
func (l *loop) look() error {
	if l.watcher.Touched() || time.Since(l.netAt) >= unseen {
		l.reconciler.Recheck()
		began := time.Now()
		net, err := netstate.Read(plan.Own)
		if err != nil {
			return err
		}
		l.net, l.netAt = net, began
	}
	l.net.Interfaces = l.netifd.Interfaces()
	return nil
}

// forwardUnreached has what goes to servers that could not be reached forwarded for a
// while: to their hosts they are then as they would be without us.
func (l *loop) forwardUnreached() {
	for _, dest := range l.proxy.Unreached() {
		l.log.Debug("not taken for a while", "dst", dest)
		l.complain(l.reconciler.AddUnreached(dest, unreachedTime))
	}
}

// mend has subflows made again that were closed.
func (l *loop) mend() {
	for _, e := range l.proxy.Missing(time.Now(), l.plan.Endpoints) {
		l.log.Info("making subflows again", "from", e.Addr)
		l.complain(l.reconciler.Remake(l.plan, e.ID))
	}
}

// complain logs an error that has not been met just before, and says whether it is one.
func (l *loop) complain(err error) (fresh bool) {
	if fresh = l.failures.note(err, time.Now()); fresh {
		l.log.Error("programming the kernel", "error", err)
	}
	return fresh
}

// release stops interception and leaves the rest in place, which carries the
// connections that are open, and tells their far ends should they be reset.
// What fails of it, teardown tries again.
func (l *loop) release() {
	ctx, cancel := context.WithTimeout(context.Background(), applyTimeout)
	defer cancel()
	p := l.plan
	if p.Firewall != nil {
		f := *p.Firewall
		f.Drain = true
		p.Firewall = &f
	}
	l.pulse.rest()
	l.stopExtending()
	l.complain(errors.Join(l.reconciler.Apply(ctx, p), l.hold(nil)))
}

// teardown gives the kernel back.
func (l *loop) teardown() error {
	ctx, cancel := context.WithTimeout(context.Background(), applyTimeout)
	defer cancel()
	return l.reconciler.Apply(ctx, plan.Plan{})
}

// leaving lists the addresses of endpoints that are not wanted any more.
func leaving(had, want []mptcp.Endpoint) (addrs []netip.Addr) {
	for _, e := range had {
		if !slices.ContainsFunc(want, func(w mptcp.Endpoint) bool { return w.Addr == e.Addr }) {
			addrs = append(addrs, e.Addr)
		}
	}
	return addrs
}

// names are the host names in a configuration; if anything is known of the
// converters, those of whom none serves us.
func names(c config.Config, known map[string]path.Converter) (all []string) {
	for _, conv := range c.Converters {
		if known != nil && known[conv.Name].State.Serves() {
			continue
		}
		for _, h := range conv.Addresses {
			if h.Name != "" && !slices.Contains(all, h.Name) {
				all = append(all, h.Name)
			}
		}
	}
	return all
}

// domains are those that are asked for their converters.
func domains(c config.Config) (all []string) {
	for _, conv := range c.Converters {
		if conv.SRV != "" && !slices.Contains(all, conv.SRV) {
			all = append(all, conv.SRV)
		}
	}
	return all
}

// lines are the WANs as they are to be measured.
func lines(c config.Config, p plan.Plan, known map[health.Leg]health.Health) (all []load.Line) {
	for i, w := range p.WANs {
		l := load.Line{Device: w.Device, Usable: w.Usable, Sample: load.Sample{
			WAN: w.Name, Role: w.Role, RateDown: float64(c.WANs[i].RateDown) * 1000, RateUp: float64(c.WANs[i].RateUp) * 1000,
		}}
		for _, leg := range w.Legs {
			l.RTT = max(l.RTT, known[w.Health(leg)].RTT)
		}
		all = append(all, l)
	}
	return all
}
