// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"braid/mcp/config"
	"braid/mcp/host"
	"braid/mcp/onpath"
	"braid/mcp/server"
	"braid/mcp/systemd"
	"braid/transport/journal"
	"braid/transport/mptcp"
)

// daemon is a converter that runs.
type daemon struct {
	command
	log    *journal.Log
	server *server.Server
	reload sync.Mutex
	config config.Config // the last good one, under reload
	stored []*os.File    // the listeners that the service manager keeps
}

func (c *command) serve() int {
	conf, err := c.source.LoadToServe()
	if err != nil {
		return c.fail(err, exitConfig)
	}
	d := &daemon{command: *c, log: journal.New(c.stderr), config: conf}
	d.apply(conf)
	if len(conf.Clients) == 0 && conf.OnPath == nil {
		d.log.Warn("nobody may use this converter yet", "cure", "braid-mcp add NAME")
	}
	d.server = server.New(conf, d.log)
	if err := d.run(); err != nil {
		d.log.Error("serving", "error", err)
		return exitFailed
	}
	return 0
}

// apply takes over what is no part of the server.
func (d *daemon) apply(c config.Config) {
	level := c.LogLevel
	if d.level != nil {
		level = *d.level
	}
	d.log.SetLevel(level)
	for _, w := range c.Warnings {
		d.log.Warn(w)
	}
}

// run serves until the first SIGTERM or SIGINT; the second ends the wait for
// what is open. SIGHUP has the configuration read, SIGUSR2 a successor started.
func (d *daemon) run() error {
	signalC := make(chan os.Signal, 4)
	signal.Notify(signalC, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2)
	defer signal.Stop(signalC)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	halt, stopDraining := context.WithCancel(context.Background())
	defer stopDraining()

	inherited, err := d.inherit()
	if err != nil {
		return err
	}
	h := host.Host{Log: d.log, Announce: func() []netip.Addr { return d.current().Announce },
		Busy: func() bool { return d.server.Stats.Open.Load() > 0 }, Awaited: d.awaited}
	h.Prepare()
	if err := d.server.Listen(ctx, inherited, d.forget); err != nil {
		stop()
		h.Run(ctx) // puts back what was
		return err
	}
	d.store()
	running := d.beside(ctx)
	defer running.Wait()
	// What is open ends before its addresses are withdrawn.
	keep, release := context.WithCancel(context.Background())
	defer release()
	running.Go(func() { h.Run(keep) })
	d.notify("READY=1")
	if err := takeOver(); err != nil {
		stop()
		return err
	}
	// After the predecessor, who has let go of it.
	if err := d.stand(ctx); err != nil {
		stop()
		return err
	}
	servedC := make(chan struct{})
	go func() {
		defer close(servedC)
		var serving sync.WaitGroup
		serving.Go(func() { d.server.OnPath.Run(ctx, halt) })
		d.server.Run(ctx, halt)
		serving.Wait()
	}()
	var limit <-chan time.Time // of the wait for what is open
	for {
		select {
		case <-limit:
			stopDraining()
		case <-servedC:
			return nil
		case s := <-signalC:
			switch {
			case s == syscall.SIGHUP:
				if err := d.reloadFile(); err != nil {
					d.log.Error("reloading; what was goes on", "error", err)
				}
			case s == syscall.SIGUSR2:
				successor, err := d.handOver()
				if err != nil {
					d.log.Error("handing over; this one goes on", "error", err)
					d.store() // the successor may have replaced them
					continue
				}
				d.server.OnPath.HandOver()
				stop() // and nobody waits for the end of what is open
				<-d.server.Deaf()
				for _, f := range d.stored { // they are the successor's
					f.Close()
				}
				d.stored = nil
				successor.Close()
			case limit == nil:
				if ctx.Err() == nil { // else the successor is the service
					d.notify("STOPPING=1")
				}
				stop()
				limit = time.After(d.current().Drain)
			default:
				stopDraining()
			}
		}
	}
}

// stand takes a place on the path, if there is to be one.
func (d *daemon) stand(ctx context.Context) error {
	c := d.current()
	if c.OnPath != nil {
		return d.server.OnPath.Apply(ctx, c.OnPath)
	}
	if err := onpath.Sweep(); err != nil {
		d.log.Debug("removing what may be left of a converter on the path", "error", err)
	}
	return nil
}

// beside starts what goes on beside the serving.
func (d *daemon) beside(ctx context.Context) *sync.WaitGroup {
	var running sync.WaitGroup
	d.log.Debug("starting", "version", version)
	if address := d.config.Metrics; address != "" {
		running.Go(func() {
			// A predecessor that drains may hold the address a little longer.
			for ctx.Err() == nil {
				err := d.server.ServeMetrics(ctx, address)
				if err == nil {
					return
				}
				d.log.Warn("serving metrics", "address", address, "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Second):
				}
			}
		})
	}
	control := server.Control{
		Status: func() server.Status { return d.server.Status(version) },
		Reload: d.reloadFile,
	}
	_ = os.MkdirAll(filepath.Dir(d.socket), 0o755)
	if err := control.Listen(ctx, d.socket, &running); err != nil {
		d.log.Warn("no status to be had", "error", err)
	}
	running.Go(func() { systemd.Watchdog(ctx, d.server.Alive, d.server.Summary) })
	return &running
}

func (d *daemon) current() config.Config {
	d.reload.Lock()
	defer d.reload.Unlock()
	return d.config
}

// reloadFile makes what the configuration says now hold, or nothing of it.
func (d *daemon) reloadFile() error {
	d.reload.Lock()
	defer d.reload.Unlock()
	c, err := d.source.Load()
	if err != nil {
		return err
	}
	if fmt.Sprint(c.Listen, c.Metrics) != fmt.Sprint(d.config.Listen, d.config.Metrics) {
		d.log.Warn("listen and metrics hold after a restart")
	}
	d.config = c
	d.apply(c)
	d.server.Reload(c)
	if err := d.server.OnPath.Apply(context.Background(), c.OnPath); err != nil {
		return err
	}
	d.log.Info("reloaded", "clients", len(c.Clients))
	return nil
}

// inherit takes over the listeners of a predecessor.
func (d *daemon) inherit() (listeners []*mptcp.Listener, err error) {
	files, err := systemd.Files()
	for _, f := range files {
		l, adoptErr := mptcp.Adopt(f)
		if adoptErr != nil {
			d.log.Warn("a file that was handed over is of no use", "error", adoptErr)
			continue
		}
		listeners = append(listeners, l)
	}
	return listeners, err
}

// forget has the service manager close the listeners that it keeps.
func (d *daemon) forget() {
	d.notify("FDSTOREREMOVE=1", "FDNAME=listener")
	for _, f := range d.stored {
		f.Close()
	}
	d.stored = nil
}

// store has the service manager keep the listeners over a restart: who connects
// meanwhile waits instead of being refused.
func (d *daemon) store() {
	d.forget()
	for _, l := range d.server.Listeners() {
		fd, err := descriptor(l)
		if err == nil {
			err = systemd.Store("listener", fd)
		}
		if err == nil && systemd.Manages() {
			var f *os.File
			if f, err = l.File(); err == nil {
				d.stored = append(d.stored, f)
			}
		}
		if err != nil {
			d.log.Warn("keeping listeners over a restart", "error", err)
		}
	}
}

// awaited says whether connections wait in a listener that the manager keeps.
func (d *daemon) awaited() bool {
	for _, f := range d.stored {
		if n, err := mptcp.Waiting(f); err == nil && n > 0 {
			return true
		}
	}
	return false
}

func (d *daemon) notify(state ...string) {
	if err := systemd.Notify(state...); err != nil {
		d.log.Warn("telling the service manager", "error", err)
	}
}
