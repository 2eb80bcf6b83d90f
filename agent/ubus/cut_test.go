// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cutter passes connections on to a broker. The first is closed once limit
// bytes have gone in the direction that is cut.
type cutter struct {
	ln     net.Listener
	target string
	up     bool // cut what the client sends, else what it receives
	limit  int64
	passed atomic.Int64 // bytes of the first connection in that direction
	wg     sync.WaitGroup
}

func newCutter(t *testing.T, path, target string, up bool, limit int64) *cutter {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, target: target, up: up, limit: limit}
	c.wg.Go(func() {
		for first := true; ; first = false {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.pass(nc, first) })
		}
	})
	return c
}

func (c *cutter) close() {
	c.ln.Close()
	c.wg.Wait()
}

func (c *cutter) pass(client net.Conn, first bool) {
	defer client.Close()
	server, err := net.Dial("unix", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	pump := func(dst, src net.Conn, cut bool) {
		defer dst.Close()
		defer src.Close()
		if !cut {
			io.Copy(dst, src)
			return
		}
		n, _ := io.Copy(dst, io.LimitReader(src, c.limit))
		c.passed.Store(n)
	}
	var wg sync.WaitGroup
	wg.Go(func() { pump(server, client, first && c.up) })
	wg.Go(func() { pump(client, server, first && !c.up) })
	wg.Wait()
}

// TestCut closes a connection after every possible number of bytes in either
// direction. Whatever was going on, all is well on the next one.
func TestCut(t *testing.T) {
	path := newServer(t)
	other := dialTest(t, path)
	publish(t, other, calc("other"))
	dir := t.TempDir()

	for _, up := range []bool{true, false} {
		name := map[bool]string{true: "sent", false: "received"}[up]
		t.Run(name, func(t *testing.T) {
			whole := converse(t, filepath.Join(dir, name), path, other, up, 1<<40, false)
			if whole < 500 {
				t.Fatalf("the conversation has only %d bytes", whole)
			}
			nextC := make(chan int64)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for n := range nextC {
						converse(t, filepath.Join(dir, fmt.Sprint(name, n)), path, other, up, n, true)
					}
				})
			}
			for n := range whole {
				nextC <- n
			}
			close(nextC)
			wg.Wait()
			t.Logf("cut at each of %d bytes", whole)
		})
	}
}

// converse runs a client through a cutter at sock, and returns how many bytes
// the first connection carried.
func converse(t *testing.T, sock, target string, other *Client, up bool, limit int64, cut bool) int64 {
	proxy := newCutter(t, sock, target, up, limit)
	c := NewClient(sock)
	c.minBackoff, c.maxBackoff = time.Millisecond, 10*time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })

	path := "cut." + filepath.Base(sock)
	noteC := make(chan string, 1000)
	p, err := c.Publish(calc(path))
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	if _, err := c.Listen(path, func(e Event) { noteC <- e.Name }); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	if _, err := c.Subscribe(Subscription{Path: "other", Active: func(on bool) { noteC <- fmt.Sprint(on) }}); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	// Each step is repeated until it succeeds: no error lasts.
	step := func(what string, f func() error) {
		for {
			err := f()
			if err == nil {
				return
			}
			var s Status
			if ctx.Err() != nil || !errors.As(err, &s) {
				t.Errorf("%s: %s: %v", path, what, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	add := func(from *Client, object string) func() error {
		return func() error {
			tctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // ubusd never answers for an object that has gone
			defer cancel()
			var got total
			err := from.Call(tctx, object, "add", sum{20, 22}, &got)
			if err == nil && got.Sum != 42 {
				t.Errorf("%s: sum is %d", path, got.Sum)
			}
			return err
		}
	}
	step("calling", add(c, "other"))
	step("being called", add(other, path))
	step("notifying", func() error { return p.Notify(ctx, "n", nil) })
	step("sending", func() error { return c.Send(ctx, "some.event", nil) })
	// Events are lost during a reconnect, so send until one arrives, and the
	// subscription is in place, and the cut is behind us.
	active, got := false, false
	for (!active || !got || cut && proxy.passed.Load() != limit) && ctx.Err() == nil {
		step("calling again", add(c, "other"))
		step("event", func() error { return other.Send(ctx, path, nil) })
		select {
		case n := <-noteC:
			active = n == "true" || active && n != "false"
			got = got || n == path
		case <-time.After(20 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		t.Errorf("%s: %v", path, ctx.Err())
	}
	cancel()
	wg.Wait()
	proxy.close()
	return proxy.passed.Load()
}
