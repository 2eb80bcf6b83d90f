// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"braid/transport/journal"
)

const (
	// spacing is the least time between two looks at all modems: a modem may
	// say a hundred times a second what its signal is.
	spacing = 200 * time.Millisecond
	// settle lets the rest of what belongs together arrive.
	settle = 10 * time.Millisecond
	// recheck is how often is looked although nothing was said.
	recheck = time.Minute
	// A bus or a ModemManager that does not answer is tried again after
	// retryFirst, twice as long each time up to retryLast.
	retryFirst = time.Second
	retryLast  = 32 * time.Second
)

var errLost = errors.New("the system bus has gone")

// Watcher follows the modems of WANs. Set targets at any time; Changed tells
// when facts are others.
type Watcher struct {
	log      *journal.Log
	dial     func(...dbus.ConnOption) (*dbus.Conn, error)
	sysfs    string
	uqmi     string        // the program
	interval time.Duration // between two questions by it
	timeout  time.Duration // of a question to ModemManager
	patience time.Duration // of one by uqmi
	changedC chan struct{}
	wakeC    chan struct{} // targets have changed
	pollC    chan struct{} // who is asked by uqmi may have changed

	mu      sync.Mutex
	targets []Target
	facts   map[string]Facts // by WAN
	managed bool             // ModemManager runs, or it is not known yet
	abroad  map[string]bool  // WANs whose modem was roaming when that was last known
}

// NewWatcher makes a watcher that watches nothing yet.
func NewWatcher(log *journal.Log) *Watcher {
	return &Watcher{log: log, dial: dbus.SystemBusPrivate, sysfs: "/sys", uqmi: "uqmi", interval: pollInterval, timeout: callTimeout, patience: askTimeout,
		changedC: make(chan struct{}, 1), wakeC: make(chan struct{}, 1), pollC: make(chan struct{}, 1),
		facts: make(map[string]Facts), managed: true, abroad: make(map[string]bool)}
}

// Changed receives when the facts of a WAN are others.
func (w *Watcher) Changed() <-chan struct{} { return w.changedC }

// Facts are what is known, by WAN.
func (w *Watcher) Facts() map[string]Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.facts)
}

// SetTargets says whose modems are to be watched from now on.
func (w *Watcher) SetTargets(targets []Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Equal(targets, w.targets) {
		return
	}
	w.targets = slices.Clone(targets)
	named := func(wan string) bool {
		return slices.ContainsFunc(targets, func(t Target) bool { return t.WAN == wan })
	}
	maps.DeleteFunc(w.facts, func(wan string, _ Facts) bool { return !named(wan) })
	maps.DeleteFunc(w.abroad, func(wan string, _ bool) bool { return !named(wan) })
	for _, t := range targets {
		if _, known := w.facts[t.WAN]; !known {
			w.facts[t.WAN] = Facts{Source: SourceNone}
		}
	}
	hint(w.wakeC)
	hint(w.pollC)
}

func hint(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var polling sync.WaitGroup
	defer polling.Wait()
	polling.Go(func() { w.poll(ctx) })
	wait, told := retryFirst, ""
	for ctx.Err() == nil {
		if !w.wanted() {
			select {
			case <-ctx.Done():
			case <-w.wakeC:
			}
			continue
		}
		began := time.Now()
		err := w.follow(ctx)
		w.lose()
		if ctx.Err() != nil {
			break
		}
		if text := err.Error(); text != told { // most routers have no bus: told once
			w.log.Debug("modems", "error", err)
			told = text
		}
		if time.Since(began) > retryLast {
			wait = retryFirst
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLast)
	}
	return nil
}

func (w *Watcher) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.targets) > 0
}

// follow keeps the facts as ModemManager has them, until it or the bus fails.
func (w *Watcher) follow(ctx context.Context) error {
	m, err := connect(ctx, w.dial, w.timeout)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if objects, err := m.read(bounded); err == nil {
			m.rate(bounded, objects, nil)
		}
	}()
	for {
		if err := w.look(ctx, m); err != nil {
			return err
		}
		looked := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.conn.Context().Done():
			return errLost
		case <-w.wakeC:
		case _, open := <-m.signalC:
			if !open {
				return errLost
			}
			time.Sleep(max(settle, spacing-time.Since(looked)))
			if !drain(m.signalC) {
				return errLost
			}
		case <-time.After(recheck):
		}
	}
}

// look reads all modems and takes what they say.
func (w *Watcher) look(ctx context.Context, m *manager) error {
	running, err := m.running(ctx)
	if err != nil {
		return err
	}
	if !running {
		clear(m.rated)
		w.lose()
		return nil
	}
	objects, err := m.read(ctx)
	if err != nil {
		return err
	}
	m.rate(ctx, objects, w.take(objects))
	return nil
}

// take finds the modem of each WAN, and returns those that have one.
func (w *Watcher) take(objects []*object) (used []*object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.managed = true
	for _, t := range w.targets {
		o := t.find(objects, w.sysfs)
		if o == nil {
			w.setLocked(t.WAN, Facts{Source: SourceNone})
			continue
		}
		w.setLocked(t.WAN, o.facts)
		used = append(used, o)
	}
	return used
}

// lose notes that there is no ModemManager.
func (w *Watcher) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.managed = false
	for _, t := range w.targets {
		if w.facts[t.WAN].Source != SourceUQMI {
			w.setLocked(t.WAN, Facts{Source: SourceNone})
		}
	}
	hint(w.pollC)
}

// setLocked notes the facts of a WAN. That a modem was roaming holds until it
// is known to be at home: a ModemManager that restarts is no reason to run up
// charges.
func (w *Watcher) setLocked(wan string, f Facts) {
	switch f.Registration {
	case Roaming:
		w.abroad[wan] = true
	case Home:
		delete(w.abroad, wan)
	case Unknown:
		f.Roaming = w.abroad[wan]
	}
	if f != w.facts[wan] {
		w.facts[wan] = f
		hint(w.changedC)
	}
}

// drain takes what waits in c; false once c is closed, as it is when the bus
// has gone.
func drain(c <-chan *dbus.Signal) bool {
	for {
		select {
		case _, open := <-c:
			if !open {
				return false
			}
		default:
			return true
		}
	}
}
