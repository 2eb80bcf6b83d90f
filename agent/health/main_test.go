// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"sync"
	"testing"
	"time"

	"braid/agent/netstate"
	"braid/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// start has a monitor run, and look as the kernel counts.
func start(ctx context.Context, m *Monitor) <-chan error {
	doneC := make(chan error, 1)
	go func() {
		var watching sync.WaitGroup
		watching.Go(func() { watch(ctx, m, new(netstate.Counters).Traffic) })
		err := m.Run(ctx)
		watching.Wait()
		doneC <- err
	}()
	return doneC
}

// watch has a monitor look when it wants to, until ctx ends.
func watch(ctx context.Context, m *Monitor, counters func() map[string]netstate.Traffic) {
	next := slowTick
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		next = m.Look(time.Now(), counters())
	}
}
