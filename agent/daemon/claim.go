// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// claimName is an abstract socket's: every network namespace has names of
	// its own, and one goes with the process that holds it.
	claimName = "@braid-agent"
	// claimTimeout is how long a new agent waits for the one before it.
	claimTimeout = 10 * time.Second
	claimRetry   = 20 * time.Millisecond
)

// claim is the right to work on the kernel of a network namespace, which one
// agent has at a time.
type claim struct{ l net.Listener }

// stake claims the kernel; the error wraps EADDRINUSE if another agent has it.
func stake() (*claim, error) {
	l, err := net.Listen("unix", claimName)
	if err != nil {
		return nil, fmt.Errorf("claiming the network namespace: %w", err)
	}
	go func() {
		for { // so that others may ask who we are
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return &claim{l}, nil
}

// stakeWithin claims the kernel once another agent has let go of it, for which
// it is given some time. The error is that of ctx should it end first.
func stakeWithin(ctx context.Context, patience time.Duration) (*claim, error) {
	timeout := time.After(patience)
	for {
		c, err := stake()
		if !errors.Is(err, syscall.EADDRINUSE) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout:
			return nil, fmt.Errorf("another agent runs in this network namespace%s", holder())
		case <-time.After(claimRetry):
		}
	}
}

// Close gives the kernel to whoever claims it next.
func (c *claim) Close() error { return c.l.Close() }

// claimed says whether somebody has the kernel.
func claimed() bool {
	c, err := net.Dial("unix", claimName)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// holder names the process that has the kernel, as far as that can be known.
func holder() string {
	c, err := net.Dial("unix", claimName)
	if err != nil {
		return ""
	}
	defer c.Close()
	rc, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ""
	}
	var peer *syscall.Ucred
	if rc.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}) != nil || err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", peer.Pid)
}
