// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"braid/agent/ubus"
)

// patience is how long tests wait for what has to happen.
const patience = 10 * time.Second

// startBus serves a socket until the test ends.
func startBus(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "ubus.sock")
	b := ubus.NewBroker(socket)
	run(t, b.Run)
	<-b.Ready()
	return socket
}

// run runs a task until the test ends.
func run(t *testing.T, task func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		if err := task(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-doneC
	}
	t.Cleanup(stop)
	return stop
}

// publish puts an object with one method on a bus, by a client of its own.
func publish(t *testing.T, socket, path, method string, answer func() (any, error)) (p *ubus.Publication, c *ubus.Client) {
	t.Helper()
	c, err := ubus.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p, err = c.Publish(ubus.Object{Path: path, Methods: []ubus.Method{{
		Name:   method,
		Handle: func(context.Context, *ubus.Request) (any, error) { return answer() },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
	return v
}
