// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package bus has tests talk over a real ubus.
package bus

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"braid/agent/ubus"
)

// Patience is how long tests wait for what has to happen.
const Patience = 10 * time.Second

// Start serves a socket until the test ends.
func Start(t testing.TB) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "ubus.sock")
	b := ubus.NewBroker(socket)
	Run(t, b.Run)
	<-b.Ready()
	return socket
}

// Run runs a task until the test ends.
func Run(t testing.TB, task func(context.Context) error) (stop func()) {
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

// Publish puts an object with one method on a bus, by a client of its own.
func Publish(t testing.TB, socket, path, method string, answer func() (any, error)) (p *ubus.Publication, c *ubus.Client) {
	t.Helper()
	c, err := ubus.Dial(context.Background(), socket)
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

func Receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(Patience):
		t.Fatalf("no %s", what)
	}
	return v
}
