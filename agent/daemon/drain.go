// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"braid/transport/journal"
)

const (
	// drainTimeout is how long open connections are carried on when the agent
	// has been told to stop.
	drainTimeout = 30 * time.Second
	// shutdownTimeout bounds what the end of a task may take.
	shutdownTimeout = 10 * time.Second
	// drainTick is how often it is looked whether they have ended.
	drainTick = 100 * time.Millisecond
	// handshake is given to connections whose SYN was taken before the packet
	// filter let go of the LAN.
	handshake = 100 * time.Millisecond
	// linger is given to what the last connections have left in the kernel's
	// buffers, which the kernel brings to the LAN without us.
	linger = time.Second
)

// drain waits until no connection is open, or ctx ends. Should there be any,
// another agent may claim the kernel meanwhile; successor is called when one
// has. The claim that comes back is nil if that one has it still: then what is
// in the kernel is no longer ours to take away.
func (d *Daemon) drain(ctx context.Context, c *claim, successor func()) (*claim, error) {
	pause(ctx, handshake)
	open := d.proxy.Open()
	if open == 0 {
		return c, nil
	}
	d.log.Info("stopping when open connections have ended", "open", open, "timeout", drainTimeout)
	if err := c.Close(); err != nil {
		return c, err
	}
	succeeded := false
	for d.proxy.Open() > 0 && pause(ctx, drainTick) {
		if !succeeded && claimed() {
			succeeded = true
			d.log.Info("another agent has taken over")
			successor()
		}
	}
	if !succeeded {
		pause(ctx, linger)
	}
	c, err := stake()
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil
	}
	return c, err
}

// tasks are some of a group's that can be ended before the others.
type tasks struct {
	group  *errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
	log    *journal.Log

	mu      sync.Mutex
	running map[string]chan struct{} // closed when the task has ended
}

func newTasks(ctx context.Context, g *errgroup.Group, log *journal.Log) *tasks {
	t := &tasks{group: g, log: log, running: make(map[string]chan struct{})}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// run starts a task, which has a name of its own; an error of it says which.
func (t *tasks) run(name string, task func(context.Context) error) {
	doneC := make(chan struct{})
	t.mu.Lock()
	t.running[name] = doneC
	t.mu.Unlock()
	t.group.Go(func() error {
		defer close(doneC)
		if err := task(t.ctx); err != nil {
			return fmt.Errorf("running %s: %w", name, err)
		}
		return nil
	})
}

// stop ends the tasks and waits for them, for shutdownTimeout at most. It names
// those that are late.
func (t *tasks) stop() {
	t.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, doneC := range t.running {
		select {
		case <-doneC:
			continue
		default:
		}
		select {
		case <-doneC:
		case <-ctx.Done():
			t.log.Warn("task does not end", "task", name, "timeout", shutdownTimeout)
		}
	}
}

// pause says whether ctx is still going on after a time.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
