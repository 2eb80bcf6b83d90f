// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; no test passes because it is over.
const patience = 20 * time.Second

// startServer runs what the tests of the client talk to: our broker, or ubusd.
var startServer = startBroker

// startBroker runs a broker until stop or the test's end.
func startBroker(t *testing.T, path string) (stop func()) {
	t.Helper()
	b := NewBroker(path)
	ctx, cancel := context.WithCancel(context.Background())
	errC := make(chan error, 1)
	go func() { errC <- b.Run(ctx) }()
	select {
	case <-b.Ready():
	case err := <-errC:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			if err := <-errC; err != nil {
				t.Error(err)
			}
		}
		stopped = true
	}
	t.Cleanup(stop)
	return stop
}

func newServer(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ubus.sock")
	startServer(t, path)
	return path
}

func dialTest(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// waitState waits until the client is connected, or is not.
func waitState(t *testing.T, c *Client, connected bool) State {
	t.Helper()
	deadline := time.After(patience)
	for {
		s, changedC := c.State()
		if s.Connected == connected {
			return s
		}
		select {
		case <-changedC:
		case <-deadline:
			t.Fatalf("state is %+v, want connected %v", s, connected)
		}
	}
}

type sum struct {
	A int `json:"a"`
	B int `json:"b"`
}

type total struct {
	Sum int `json:"sum"`
}

// calc is an object that adds.
func calc(path string) Object {
	return Object{
		Path: path,
		Methods: []Method{{
			Name: "add",
			Args: []Arg{{"a", Int32}, {"b", Int32}},
			Handle: func(_ context.Context, r *Request) (any, error) {
				var in sum
				if err := r.Args(&in); err != nil {
					return nil, err
				}
				return total{in.A + in.B}, nil
			},
		}, {
			Name:   "refuse",
			Handle: func(context.Context, *Request) (any, error) { return nil, ErrPermissionDenied },
		}, {
			Name:   "fail",
			Handle: func(context.Context, *Request) (any, error) { return nil, errors.New("no status") },
		}, {
			Name:   "unsayable",
			Handle: func(context.Context, *Request) (any, error) { return map[string]chan int{"c": nil}, nil },
		}, {
			Name:   "nothing",
			Handle: func(context.Context, *Request) (any, error) { return nil, nil },
		}},
	}
}

func publish(t *testing.T, c *Client, o Object) *Publication {
	t.Helper()
	p, err := c.Publish(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rawDial is a connection past its hello, for what a Client would not send.
func rawDial(t *testing.T, path string) net.Conn {
	t.Helper()
	nc, _ := rawHello(t, path)
	return nc
}

// rawHello is rawDial that tells the client's id too.
func rawHello(t *testing.T, path string) (net.Conn, uint32) {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	m, err := readMessage(nc, maxReceived)
	if err != nil || m.kind != kindHello || m.peer < systemObjects {
		t.Fatalf("hello is %+v, %v", m, err)
	}
	return nc, m.peer
}

// exchange sends m and returns the next message that comes back.
func exchange(t *testing.T, nc net.Conn, m message) message {
	t.Helper()
	if _, err := nc.Write(m.append(nil)); err != nil {
		t.Fatal(err)
	}
	back, err := readMessage(nc, maxReceived)
	if err != nil {
		t.Fatal(err)
	}
	return back
}
