// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package daemon is the agent as a whole: it starts and stops the tasks,
// keeps the configuration, and turns whatever happens into a new plan.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"braid/agent/converter"
	"braid/agent/health"
	"braid/agent/kernel/tproxy"
	"braid/agent/netstate"
	"braid/agent/path"
	"braid/agent/proxy"
	"braid/agent/reconcile"
	"braid/agent/ubus"
	"braid/transport/guard"
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
	log   *slog.Logger
	level *slog.LevelVar
	start time.Time

	client     *ubus.Client
	object     *ubus.Publication
	proxy      *proxy.Proxy
	health     *health.Monitor
	converters *converter.Monitor
	resolver   *resolver
	netifd     *netifd
	flows      *flows
	clats      *clats

	requestC chan request // to the loop
	eventC   chan event   // to ubus

	state   state
	balance balance
}

// New makes an agent that has not started. level is changed to what the
// configuration says.
func New(o Options, log *slog.Logger, level *slog.LevelVar) *Daemon {
	client := ubus.NewClient(o.Ubus)
	p := &proxy.Proxy{Log: log, Guard: &guard.Guard{Log: log}, Memory: new(path.Memory)}
	converters := converter.NewMonitor(log, p.Dialer())
	p.Doubt = converters.Doubt
	return &Daemon{
		Options:    o,
		log:        log,
		level:      level,
		start:      time.Now(),
		client:     client,
		proxy:      p,
		health:     health.NewMonitor(log),
		converters: converters,
		resolver:   newResolver(log),
		netifd:     newNetifd(client),
		flows:      newFlows(p),
		clats:      newCLATs(log),
		requestC:   make(chan request),
		eventC:     make(chan event, maxEvents),
	}
}

// shutdownTimeout bounds what stopping may take.
const shutdownTimeout = 10 * time.Second

// Run runs the agent until ctx ends, and leaves the kernel as it was found.
// hup asks to read the configuration again.
func (d *Daemon) Run(ctx context.Context, hup <-chan struct{}) (err error) {
	r, err := reconcile.New(d.State)
	if err != nil {
		return err
	}
	listener, err := tproxy.Listen(ctx)
	if err != nil {
		return fmt.Errorf("opening the proxy's listener: %w", err)
	}
	defer listener.Close()
	heart, err := tproxy.NewHeart(ctx)
	if err != nil {
		return err
	}
	defer heart.Close()
	changedC, err := netstate.Watch(ctx)
	if err != nil {
		return err
	}

	if err := d.publish(); err != nil {
		return err
	}
	l := &loop{Daemon: d, reconciler: r, heart: heart, port: listener.Port()}
	d.remember()
	d.netifd.readFirst(ctx, d.Ubus)
	l.load(ctx) // so that the first who ask get an answer that holds
	l.update(ctx)

	// The proxy and ubus outlive the loop, which ends by giving the kernel
	// back: until then nothing that it still sends our way may be lost.
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, outer := errgroup.WithContext(outer)
	if d.Standalone {
		g.Go(func() error { return ubus.NewBroker(d.Ubus).Run(outer) })
	}
	g.Go(func() error { return d.client.Run(outer) })
	g.Go(func() error { return d.sendEvents(outer) })
	g.Go(func() error { return d.netifd.run(outer) })
	g.Go(func() error { return d.flows.run(outer) })
	g.Go(func() error { return d.clats.run(outer) })
	g.Go(func() error { return d.health.Run(outer) })
	g.Go(func() error { return d.converters.Run(outer) })
	g.Go(func() error { return d.resolver.run(outer) })
	g.Go(func() error { return d.proxy.Guard.Run(outer) })
	serving, stopServing := context.WithCancel(outer)
	defer stopServing()
	servedC := make(chan struct{})
	g.Go(func() error {
		defer close(servedC)
		err := d.proxy.Run(serving, listener)
		if serving.Err() == nil {
			return errors.Join(errors.New("proxy ended"), err)
		}
		return err
	})
	g.Go(func() error {
		defer stop()
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(outer, cancel)() // another task failed
		l.run(inner, changedC, hup)
		last, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer done()
		l.release(last)
		stopServing()
		select {
		case <-servedC:
		case <-last.Done():
		}
		return errors.Join(l.teardown(last), d.memorize())
	})
	return g.Wait()
}
