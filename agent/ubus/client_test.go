// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestCall(t *testing.T) {
	path := newServer(t)
	publish(t, dialTest(t, path), calc("calc"))
	c := dialTest(t, path)

	var got total
	if err := c.Call(t.Context(), "calc", "add", sum{2, 3}, &got); err != nil || got.Sum != 5 {
		t.Errorf("add = %+v, %v", got, err)
	}
	tests := []struct {
		object, method string
		args           any
		want           error
	}{
		{"calc", "add", map[string]string{"a": "2"}, ErrInvalidArgument},
		{"calc", "refuse", nil, ErrPermissionDenied},
		{"calc", "fail", nil, ErrUnknown},
		{"calc", "unsayable", nil, ErrUnknown},
		{"calc", "absent", nil, ErrMethodNotFound},
		{"calc", "nothing", nil, nil},
		{"absent", "add", nil, ErrNotFound},
		{"cal*", "add", nil, ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.object+" "+tt.method, func(t *testing.T) {
			if err := c.Call(t.Context(), tt.object, tt.method, tt.args, nil); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCallTimeout(t *testing.T) {
	path := newServer(t)
	startedC, endedC := make(chan struct{}), make(chan struct{})
	server := dialTest(t, path)
	publish(t, server, Object{Path: "slow", Methods: []Method{{
		Name: "wait",
		Handle: func(ctx context.Context, _ *Request) (any, error) {
			close(startedC)
			<-ctx.Done() // the server's connection, not the call, ends it
			close(endedC)
			return nil, ctx.Err()
		},
	}}})
	c := dialTest(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Call(ctx, "slow", "wait", nil, nil)
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want ErrTimeout", err)
	}
	receive(t, "the handler", startedC)
	server.Close()
	receive(t, "the handler's end", endedC)
	if err := server.Call(t.Context(), "slow", "wait", nil, nil); !errors.Is(err, ErrConnectionFailed) {
		t.Errorf("error %v after Close, want ErrConnectionFailed", err)
	}
}

func TestLookup(t *testing.T) {
	path := newServer(t)
	server := dialTest(t, path)
	for _, name := range []string{"net.b", "calc", "net.a"} {
		publish(t, server, calc(name))
	}
	if _, err := server.Listen("x", func(Event) {}); err != nil { // nameless, must not show
		t.Fatal(err)
	}
	c := dialTest(t, path)
	tests := []struct {
		pattern string
		want    []string
		err     error
	}{
		{"", []string{"calc", "net.a", "net.b"}, nil},
		{"*", []string{"calc", "net.a", "net.b"}, nil},
		{"net.*", []string{"net.a", "net.b"}, nil},
		{"calc", []string{"calc"}, nil},
		{"net", nil, ErrNotFound},
		{"wan*", nil, ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			found, err := c.Lookup(t.Context(), tt.pattern)
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			var got []string
			for _, o := range found {
				got = append(got, o.Path)
				if diff := cmp.Diff(calc("").Methods, o.Methods, cmpopts.IgnoreFields(Method{}, "Handle")); diff != "" {
					t.Errorf("%s -want +got:\n%s", o.Path, diff)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestPublish(t *testing.T) {
	path := newServer(t)
	a, b := dialTest(t, path), dialTest(t, path)
	p := publish(t, a, calc("calc"))
	if _, err := b.Publish(calc("calc")); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("second of the name: error %v, want ErrInvalidArgument", err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, calc("calc"))
	if err := p.Notify(t.Context(), "x", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("notifying for a removed object: error %v, want ErrNotFound", err)
	}
	if err := a.Call(t.Context(), "calc", "add", sum{}, nil); err != nil {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	path := newServer(t)
	a, b := dialTest(t, path), dialTest(t, path)
	gotC := make(chan string, 10)
	listen := func(pattern string) *Registration {
		r, err := a.Listen(pattern, func(e Event) {
			var v sum
			if err := e.Data.Unmarshal(&v); err != nil {
				t.Error(err)
			}
			gotC <- fmt.Sprint(pattern, " ", e.Name, " ", v.A)
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	listen("braid.*")
	exact := listen("braid.wan")
	listen("other")
	send := func(c *Client, name string, n int) {
		if err := c.Send(t.Context(), name, sum{A: n}); err != nil {
			t.Fatal(err)
		}
	}
	both := func() map[string]bool {
		return map[string]bool{receive(t, "event", gotC): true, receive(t, "event", gotC): true}
	}
	send(a, "braid.wan", 1) // not sent back
	send(b, "braid.wan", 2)
	if diff := cmp.Diff(map[string]bool{"braid.* braid.wan 2": true, "braid.wan braid.wan 2": true}, both()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := exact.Remove(); err != nil {
		t.Fatal(err)
	}
	send(b, "braid.wan", 3)
	send(b, "braid", 4)
	send(b, "other", 5)
	if diff := cmp.Diff(map[string]bool{"braid.* braid.wan 3": true, "other other 5": true}, both()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := b.Send(t.Context(), "ubus.object.add", nil); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("error %v, want ErrPermissionDenied", err)
	}
}

// TestEventsLost: a handler that is slow loses events, is told how many, and
// keeps nothing else from going on.
func TestEventsLost(t *testing.T) {
	path := newServer(t)
	c, sender := dialTest(t, path), dialTest(t, path)
	startedC, goC := make(chan struct{}), make(chan struct{})
	eventC := make(chan Event, boxSize+2)
	first := true
	if _, err := c.Listen("e", func(e Event) {
		if first {
			first = false
			close(startedC)
			<-goC
		}
		eventC <- e
	}); err != nil {
		t.Fatal(err)
	}
	const lost = 40
	for i := range 1 + boxSize + lost {
		if err := sender.Send(t.Context(), "e", sum{A: i}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			receive(t, "the first event", startedC)
		}
	}
	if err := c.Send(t.Context(), "x", nil); err != nil { // its answer comes after the events
		t.Fatal(err)
	}
	close(goC)
	for i := range 1 + boxSize {
		var v sum
		e := receive(t, "an event", eventC)
		if err := e.Data.Unmarshal(&v); err != nil || v.A != i || e.Lost != 0 {
			t.Fatalf("event %d is %+v, lost %d, %v", i, v, e.Lost, err)
		}
	}
	if err := sender.Send(t.Context(), "e", nil); err != nil {
		t.Fatal(err)
	}
	if e := receive(t, "the last event", eventC); e.Lost != lost {
		t.Errorf("lost %d, want %d", e.Lost, lost)
	}
}

func TestObjectEvents(t *testing.T) {
	path := newServer(t)
	gotC := make(chan string, 10)
	if _, err := dialTest(t, path).Listen("ubus.object.*", func(e Event) {
		var v struct {
			ID   int32  `json:"id"`
			Path string `json:"path"`
		}
		if err := e.Data.Unmarshal(&v); err != nil || v.ID == 0 {
			t.Error(v, err)
		}
		gotC <- e.Name + " " + v.Path
	}); err != nil {
		t.Fatal(err)
	}
	c := dialTest(t, path)
	p := publish(t, c, calc("one"))
	publish(t, c, calc("two"))
	p.Remove()
	c.Close()
	for _, want := range []string{"ubus.object.add one", "ubus.object.add two", "ubus.object.remove one", "ubus.object.remove two"} {
		if got := receive(t, want, gotC); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSubscribe(t *testing.T) {
	path := newServer(t)
	c := dialTest(t, path)
	gotC := make(chan string, 10)
	r, err := c.Subscribe(Subscription{
		Path:   "network.interface",
		Notify: func(e Event) { gotC <- e.Name },
		Active: func(on bool) { gotC <- fmt.Sprint("active ", on) },
	})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		if got := receive(t, want, gotC); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	// The object comes, goes and comes again, each time from another client.
	for range 3 {
		watchedC := make(chan bool, 10)
		netifd := dialTest(t, path)
		p := publish(t, netifd, Object{Path: "network.interface", Subscribed: func(on bool) { watchedC <- on }})
		expect("active true")
		if !receive(t, "a subscriber", watchedC) {
			t.Error("told of no subscribers first")
		}
		for i := range 5 {
			if err := p.Notify(t.Context(), fmt.Sprint("n", i), nil); err != nil {
				t.Fatal(err)
			}
			expect(fmt.Sprint("n", i))
		}
		netifd.Close()
		expect("active false")
		if receive(t, "no subscriber", watchedC) {
			t.Error("told of subscribers at the end")
		}
	}
	netifd := dialTest(t, path)
	watchedC := make(chan bool, 10)
	publish(t, netifd, Object{Path: "network.interface", Subscribed: func(on bool) { watchedC <- on }})
	expect("active true")
	receive(t, "a subscriber", watchedC)
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if receive(t, "no subscriber", watchedC) {
		t.Error("still subscribed after Remove")
	}
	if _, err := netifd.Subscribe(Subscription{Path: "network.interface"}); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("subscribing to oneself: error %v, want ErrInvalidArgument", err)
	}
}

// TestNotifyWithReply: publishers other than ours may want to be answered.
func TestNotifyWithReply(t *testing.T) {
	path := newServer(t)
	nc := rawDial(t, path)
	body := appendAttrString(nil, attrObjPath, "p")
	data := exchange(t, nc, message{kind: kindAddObject, seq: 1, body: appendAttr(body, attrSignature, nil)})
	at := data.attributes()
	id := at.u32(attrObjID)
	if m, err := readMessage(nc, maxReceived); err != nil || m.kind != kindStatus {
		t.Fatal(m, err)
	}
	if _, err := dialTest(t, path).Subscribe(Subscription{Path: "p", Notify: func(Event) {}}); err != nil {
		t.Fatal(err)
	}
	m, err := readMessage(nc, maxReceived)
	if at := m.attributes(); err != nil || m.kind != kindNotify || !at.flag(attrActive) {
		t.Fatalf("got %+v, %v, want word of a subscriber", m, err)
	}
	m = exchange(t, nc, message{kind: kindNotify, seq: 2, peer: id, body: invocation(id, "n", nil, false)})
	at = m.attributes()
	list := attributes{}
	for a := range attrs(at[attrSubscribers]) {
		list[attrObjID] = a.data
	}
	if m.kind != kindStatus || m.seq != 2 || m.peer != id || list.u32(attrObjID) == 0 {
		t.Fatalf("got %+v, want the list of subscribers", m)
	}
	m, err = readMessage(nc, maxReceived)
	at = m.attributes()
	if err != nil || m.kind != kindStatus || m.seq != 2 || m.peer != list.u32(attrObjID) || at.u32(attrStatus) != 0 {
		t.Fatalf("got %+v, %v, want the subscriber's answer", m, err)
	}
}

// TestHandlersBounded: the connection works on while every handler is busy, and
// what cannot wait is refused.
func TestHandlersBounded(t *testing.T) {
	path := newServer(t)
	server := dialTest(t, path)
	goC := make(chan struct{})
	var running, most atomic.Int64
	publish(t, server, Object{Path: "slow", Methods: []Method{{
		Name: "wait",
		Handle: func(context.Context, *Request) (any, error) {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-goC
			running.Add(-1)
			return nil, nil
		},
	}}})
	c := dialTest(t, path)
	const refused = 40
	errC := make(chan error, maxWaiting+refused)
	for range maxWaiting + refused {
		go func() { errC <- c.Call(context.Background(), "slow", "wait", nil, nil) }()
	}
	for range refused {
		if err := receive(t, "a refusal", errC); !errors.Is(err, ErrNoMemory) {
			t.Fatalf("error %v, want ErrNoMemory", err)
		}
	}
	if _, err := server.Lookup(t.Context(), "slow"); err != nil {
		t.Errorf("with all handlers busy: %v", err)
	}
	close(goC)
	for range maxWaiting {
		if err := receive(t, "an answer", errC); err != nil {
			t.Fatal(err)
		}
	}
	if most.Load() != maxRunning {
		t.Errorf("%d handlers ran at a time, want %d", most.Load(), maxRunning)
	}
}

func TestLoad(t *testing.T) {
	path := newServer(t)
	server := dialTest(t, path)
	p := publish(t, server, calc("calc"))
	const clients, workers, calls, notes = 6, 4, 100, 500
	var seen [clients]struct{ got, lost atomic.Int64 }
	allC := make(chan struct{}, clients)
	var wg sync.WaitGroup
	for i := range clients {
		c := dialTest(t, path)
		if _, err := c.Subscribe(Subscription{Path: "calc", Notify: func(e Event) {
			lost := seen[i].lost.Add(int64(e.Lost))
			got := seen[i].got.Add(1)
			if e.Name == "last" {
				if got+lost != notes+1 {
					t.Errorf("client %d got %d and lost %d of %d", i, got, lost, notes+1)
				}
				allC <- struct{}{}
			}
		}}); err != nil {
			t.Fatal(err)
		}
		for w := range workers {
			wg.Go(func() {
				for n := range calls {
					var got total
					if err := c.Call(context.Background(), "calc", "add", sum{w, n}, &got); err != nil || got.Sum != w+n {
						t.Errorf("add(%d, %d) = %d, %v", w, n, got.Sum, err)
					}
				}
			})
		}
	}
	wg.Go(func() {
		for n := range notes {
			if err := p.Notify(context.Background(), "n", sum{A: n}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if err := p.Notify(t.Context(), "last", nil); err != nil {
		t.Fatal(err)
	}
	for range clients {
		receive(t, "the last notification", allC)
	}
}

// TestLargeMessages: what is at the limit passes, what is above does not break
// the connection.
func TestLargeMessages(t *testing.T) {
	path := newServer(t)
	c := dialTest(t, path)
	sizeC := make(chan int, 10)
	publish(t, c, Object{Path: "big", Methods: []Method{{
		Name: "echo",
		Handle: func(_ context.Context, r *Request) (any, error) {
			sizeC <- len(r.Data)
			return r.Data, nil
		},
	}}})
	// Header 4, object 8, method 12, data 4, and in it name and string.
	fill := func(n int) map[string]any { return map[string]any{"s": strings.Repeat("x", n)} }
	const most = MaxMessage - 4 - 8 - 12 - 4 - 8 - 4
	var back map[string]any
	if err := c.Call(t.Context(), "big", "echo", fill(most), &back); err != nil || len(back["s"].(string)) != most {
		t.Errorf("echo of the largest: %d bytes, %v", len(back), err)
	}
	if got, want := <-sizeC, MaxMessage-28; got != want {
		t.Errorf("arguments of %d bytes, want %d", got, want)
	}
	if err := c.Call(t.Context(), "big", "echo", fill(most+4), nil); err == nil || errors.Is(err, ErrConnectionFailed) {
		t.Errorf("echo of more: error %v", err)
	}
	if err := c.Call(t.Context(), "big", "echo", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestReconnect: all that was registered is so again after the broker restarted.
func TestReconnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ubus.sock")
	eventC, noteC := make(chan string, 10), make(chan string, 10)
	watchedC := make(chan bool, 10)

	// Everything is registered before there is a broker.
	a, b := NewClient(path), NewClient(path)
	p := publish(t, a, Object{Path: "a", Methods: calc("").Methods, Subscribed: func(on bool) { watchedC <- on }})
	gone := publish(t, a, calc("gone"))
	if _, err := b.Listen("ev.*", func(e Event) { eventC <- e.Name }); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe(Subscription{
		Path:   "a",
		Notify: func(e Event) { noteC <- e.Name },
		Active: func(on bool) { noteC <- fmt.Sprint(on) },
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Notify(t.Context(), "x", nil); !errors.Is(err, ErrConnectionFailed) {
		t.Errorf("without connection: error %v, want ErrConnectionFailed", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range []*Client{a, b} {
		c.minBackoff, c.maxBackoff = time.Millisecond, 20*time.Millisecond
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()

	for range 3 {
		stop := startServer(t, path)
		receive(t, "a ready", a.Ready())
		receive(t, "b ready", b.Ready())
		waitState(t, a, true)
		waitState(t, b, true)
		if got := receive(t, "active", noteC); got != "true" {
			t.Fatalf("got %q, want active", got)
		}
		if !receive(t, "a subscriber", watchedC) {
			t.Error("told of no subscribers first")
		}
		var got total
		if err := b.Call(t.Context(), "a", "add", sum{1, 2}, &got); err != nil || got.Sum != 3 {
			t.Errorf("add = %v, %v", got, err)
		}
		if err := a.Send(t.Context(), "ev.x", nil); err != nil {
			t.Error(err)
		}
		receive(t, "the event", eventC)
		if err := p.Notify(t.Context(), "n", nil); err != nil {
			t.Error(err)
		}
		if got := receive(t, "the notification", noteC); got != "n" {
			t.Errorf("got %q, want n", got)
		}
		if err := gone.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := b.Lookup(t.Context(), "gone"); !errors.Is(err, ErrNotFound) {
			t.Errorf("removed object: error %v, want ErrNotFound", err)
		}
		stop()
		if s := waitState(t, a, false); s.Err == nil {
			t.Error("no reason for the lost connection")
		}
		waitState(t, b, false)
		if got := receive(t, "the end", noteC); got != "false" {
			t.Fatalf("got %q, want inactive", got)
		}
		if receive(t, "no subscriber", watchedC) {
			t.Error("told of subscribers at the end")
		}
		if err := b.Call(t.Context(), "a", "add", sum{}, nil); !errors.Is(err, ErrConnectionFailed) {
			t.Errorf("error %v, want ErrConnectionFailed", err)
		}
	}
}

// TestRegisterDuringReconnect: what is registered or removed at any moment ends
// up so, however the connection fares.
func TestRegisterDuringReconnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ubus.sock")
	c := NewClient(path)
	c.minBackoff, c.maxBackoff = time.Millisecond, time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	doneC := make(chan struct{})
	var kept []string
	go func() {
		defer close(doneC)
		for i := range 200 {
			name := fmt.Sprintf("o%03d", i)
			p, err := c.Publish(calc(name))
			if err != nil {
				t.Errorf("publishing %s: %v", name, err)
				return
			}
			if i%2 == 0 {
				kept = append(kept, name)
			} else if err := p.Remove(); err != nil {
				t.Errorf("removing %s: %v", name, err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	for busy := true; busy; {
		stop := startServer(t, path)
		select {
		case <-doneC:
			busy = false
		case <-time.After(15 * time.Millisecond):
			stop()
		}
	}
	reader := dialTest(t, path)
	var got []string
	for deadline := time.Now().Add(patience); !slices.Equal(got, kept) && time.Now().Before(deadline); {
		got = nil
		found, err := reader.Lookup(t.Context(), "o*")
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for _, o := range found {
			got = append(got, o.Path)
		}
	}
	if diff := cmp.Diff(kept, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDialFails(t *testing.T) {
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("connected to nobody")
	}
}
