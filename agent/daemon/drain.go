// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
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
	group   *errgroup.Group
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newTasks(ctx context.Context, g *errgroup.Group) *tasks {
	t := &tasks{group: g}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

func (t *tasks) run(task func(context.Context) error) {
	t.running.Add(1)
	t.group.Go(func() error {
		defer t.running.Done()
		return task(t.ctx)
	})
}

// stop ends the tasks and waits for them, for shutdownTimeout at most.
func (t *tasks) stop() {
	t.cancel()
	doneC := make(chan struct{})
	go func() {
		t.running.Wait()
		close(doneC)
	}()
	select {
	case <-doneC:
	case <-time.After(shutdownTimeout):
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
