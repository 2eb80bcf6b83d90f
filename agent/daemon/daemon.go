// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package daemon is the agent as a whole: it starts and stops the tasks,
// keeps the configuration, and turns whatever happens into a new plan.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"braid/agent/clat"
	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/health"
	"braid/agent/history"
	"braid/agent/load"
	"braid/agent/modem"
	"braid/agent/nameserver"
	"braid/agent/netifd"
	"braid/agent/netstate"
	"braid/agent/path"
	"braid/agent/plan"
	"braid/agent/proxy"
	"braid/agent/quota"
	"braid/agent/reconcile"
	"braid/agent/status"
	"braid/agent/ubus"
	"braid/onpath/tproxy"
	"braid/transport/convert"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

// Options are what the command line says.
type Options struct {
	Version    string
	UCI        string // directory of the configuration
	Ubus       string // socket
	Standalone bool   // serve that socket ourselves
	State      string // directory of what must survive a crash
}

// Daemon is the agent. Make one with New.
type Daemon struct {
	Options
	log *journal.Log

	client     *ubus.Client
	object     *ubus.Publication
	proxy      *proxy.Proxy
	health     *health.Monitor
	converters *converter.Monitor
	resolver   *converter.Resolver
	netifd     *netifd.Monitor
	clats      *clat.Supervisor
	servers    *nameserver.Monitor
	modems     *modem.Watcher
	clock      *quota.Clock
	quotas     *quota.Book
	meter      load.Meter
	view       *status.View

	requestC chan request // to the loop
	eventC   chan event   // to ubus

	rates  *history.Rates
	events history.Events
}

// New makes an agent that has not started. The level of log is changed to what
// the configuration says.
func New(o Options, log *journal.Log) *Daemon {
	client := ubus.NewClient(o.Ubus)
	p := &proxy.Proxy{Log: log, Guard: &guard.Guard{Log: log}, Memory: new(path.Memory),
		Wanted: func(way int) config.Path { return plan.Verdicts[way].Path }}
	converters := converter.NewMonitor(log, p.Dialer(), &p.Wallet)
	monitor := health.NewMonitor(log)
	p.Doubt = func(name string, w path.Way, err error) {
		converters.Doubt(name, w, err)
		if !errors.As(err, new(convert.Error)) {
			monitor.Kick(w.WAN) // it has said nothing: it may be the line
		}
	}
	p.Missed = converters.Missed
	d := &Daemon{
		Options:    o,
		log:        log,
		client:     client,
		proxy:      p,
		health:     monitor,
		converters: converters,
		resolver:   converter.NewResolver(log),
		netifd:     netifd.NewMonitor(client),
		clats:      clat.NewSupervisor(log),
		servers:    nameserver.NewMonitor(),
		modems:     modem.NewWatcher(log),
		requestC:   make(chan request),
		eventC:     make(chan event, maxEvents),
		rates:      history.NewRates(),
	}
	d.view = status.New(o.Version, p, d.health, converters, &d.meter, d.modems, &d.events)
	return d
}

// Run runs the agent until ctx ends, and leaves the kernel as it was found, or
// to an agent that has claimed it meanwhile. Connections that are open then get
// 30 s to end, but not longer than hurry goes on. hup asks to read the
// configuration again.
func (d *Daemon) Run(ctx, hurry context.Context, hup <-chan struct{}) (err error) {
	c, err := stakeWithin(ctx, claimTimeout)
	switch {
	case errors.Is(err, context.Canceled):
		return nil // told to stop before it could begin
	case err != nil:
		return err
	}
	defer func() { c.Close() }()
	d.bound()
	r, err := reconcile.New(d.State)
	if err != nil {
		return err
	}
	listener, err := tproxy.Listen(ctx, plan.MarkLAN, len(plan.Verdicts))
	if err != nil {
		return fmt.Errorf("opening the proxy's listener: %w", err)
	}
	defer listener.Close()
	if err := listener.Each((*mptcp.Listener).AcceptNear); err != nil {
		return err
	}
	if c := mptcp.CongestionControl(); c.Missing != nil {
		d.log.Warn("without BBR: lines that lose packets carry less", "congestion", c.Lines, "reason", c.Missing)
	} else {
		d.log.Info("congestion control", "lines", c.Lines, "lan", c.Near)
	}
	heart, err := tproxy.NewHeart(plan.MarkAgent)
	if err != nil {
		return err
	}
	defer heart.Close()
	watcher, err := netstate.Watch(ctx, plan.Own)
	if err != nil {
		return err
	}

	if err := d.publish(); err != nil {
		return err
	}
	l := &loop{Daemon: d, reconciler: r, watcher: watcher, pulse: &pulse{heart: heart}, ports: plan.Ports(listener.Ports()), letGoC: make(chan struct{}),
		beatC: make(chan struct{}, 1), heldC: make(chan struct{}, 1), failures: make(failures)}
	if err := d.proxy.Memory.LoadFile(d.serversFile()); err != nil {
		d.log.Warn("reading what is known of servers", "file", d.serversFile(), "error", err)
	}
	if err := d.openQuotas(); err != nil {
		return err
	}
	d.netifd.ReadFirst(ctx, d.Ubus)
	l.meter.Measure(time.Now(), l.counters.Traffic()) // so that the first who ask get an answer that holds
	l.load(ctx)
	l.update(ctx)

	// All tasks outlive the loop, which ends by giving the kernel back: until
	// then nothing that it still sends our way may be lost.
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, outer := errgroup.WithContext(outer)
	work := newTasks(outer, g, d.log)
	if d.Standalone {
		work.run("broker", ubus.NewBroker(d.Ubus).Run)
	}
	work.run("ubus", d.client.Run)
	work.run("events", d.sendEvents)
	work.run("netifd", d.netifd.Run)
	work.run("health", d.health.Run)
	work.run("watch", l.watch)
	work.run("converters", d.converters.Run)
	work.run("names", d.resolver.Run)
	work.run("nameservers", d.servers.Run)
	work.run("modems", d.modems.Run)
	translate := newTasks(outer, g, d.log)
	translate.run("clat", d.clats.Run)
	serve := newTasks(outer, g, d.log)
	serve.run("guard", d.proxy.Guard.Run)
	serve.run("proxy", func(ctx context.Context) error {
		err := d.proxy.Run(ctx, listener)
		if ctx.Err() == nil {
			return errors.Join(errors.New("ended by itself"), err)
		}
		return err
	})
	g.Go(func() error {
		defer stop()
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(outer, cancel)() // another task failed
		l.run(inner, hup)
		l.release()
		err := errors.Join(d.proxy.Memory.SaveFile(d.serversFile()), d.saveQuotas())
		work.stop()
		patient, cancel := context.WithTimeout(hurry, drainTimeout)
		defer cancel()
		defer context.AfterFunc(outer, cancel)()
		ours, failed := d.drain(patient, c, translate.stop)
		serve.stop()
		if ours != nil && ours != c {
			c = ours
			failed = errors.Join(failed, r.Resume())
		}
		if ours != nil {
			failed = errors.Join(failed, l.teardown())
		}
		return errors.Join(err, failed)
	})
	return g.Wait()
}

// serversFile keeps what is known of servers across restarts.
func (d *Daemon) serversFile() string { return filepath.Join(d.State, "servers") }
