// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func expectHint(t *testing.T, hintC <-chan struct{}) {
	t.Helper()
	select {
	case _, ok := <-hintC:
		if !ok {
			t.Fatal("the channel is closed")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no hint")
	}
}

func TestWatch(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, c := range []struct{ name, do, undo string }{
		{"link", "link set lo mtu 60000", "link set lo mtu 65536"},
		{"IPv4 address", "addr add 192.0.2.1/32 dev lo", "addr del 192.0.2.1/32 dev lo"},
		{"IPv6 address", "addr add 2001:db8::1/128 dev lo nodad", "addr del 2001:db8::1/128 dev lo"},
		{"IPv4 route", "route add default dev lo", "route del default dev lo"},
		{"IPv6 route", "-6 route add default dev lo table 26", "-6 route del default dev lo table 26"},
		{"IPv4 rule", "rule add pref 777 lookup main", "rule del pref 777"},
		{"IPv6 rule", "-6 rule add pref 777 lookup main", "-6 rule del pref 777"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w, err := Watch(ctx, own)
			if err != nil {
				t.Fatal(err)
			}
			ip(t, c.do)
			expectHint(t, w.Changed())
			for range 20 {
				ip(t, c.undo)
				ip(t, c.do)
			}
			ip(t, c.undo)
			expectHint(t, w.Changed())
			cancel()
			hints := 0
			for range w.Changed() {
				hints++
			}
			if hints > 1 {
				t.Errorf("%d hints were left; they are to be one", hints)
			}
		})
	}
}

// What is no part of a snapshot is no news, however often it changes.
func TestNoNews(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := Watch(ctx, own)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, verb := range []string{"add", "del"} {
			ip(t, "route "+verb+" 192.0.2.0/24 dev lo")
			ip(t, "-6 route "+verb+" 2001:db8::/32 dev lo table 100")
			ip(t, "route "+verb+" default dev lo table 7001")
			ip(t, "rule "+verb+" pref 710 from 192.0.2.1 lookup 7001")
			ip(t, "rule "+verb+" pref 32765 fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0")
		}
	}
	select {
	case <-w.Changed():
		t.Error("a hint for nothing")
	case <-time.After(200 * time.Millisecond):
	}
	if w.Touched() != true || w.Touched() {
		t.Error("that our own was touched is not told, or twice")
	}
	ip(t, "rule add pref 777 lookup main")
	defer ip(t, "rule del pref 777")
	expectHint(t, w.Changed())
}

func TestWatchEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, err := Watch(ctx, own)
	if err != nil {
		t.Fatal(err)
	}
	for range w.Changed() {
	}
}

// A socket that could not hold all changes gives a hint, and goes on.
func TestOverflow(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetReceiveBufferSize(1, false); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ip(t, "rule add pref 777 lookup main")
		ip(t, "rule del pref 777")
	}
	if drops(t) == 0 {
		t.Fatal("nothing has overflowed")
	}
	w := newWatcher(own)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.follow(ctx, s)
	}()
	expectHint(t, w.Changed())
	ip(t, "rule add pref 777 lookup main")
	ip(t, "rule del pref 777")
	expectHint(t, w.Changed())
	cancel()
	<-done
}

// drops counts what the namespace's netlink sockets had no room for.
func drops(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		t.Fatal(err)
	}
	_, sockets, _ := strings.Cut(string(b), "\n")
	for line := range strings.Lines(sockets) {
		of, err := strconv.Atoi(strings.Fields(line)[8])
		if err != nil {
			t.Fatal(err)
		}
		n += of
	}
	return n
}

// A socket that fails is replaced by another one.
func TestSubscribesAgain(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	broken.Close()
	w := newWatcher(own)
	go w.run(ctx, broken)
	expectHint(t, w.Changed()) // for what was missed
	ip(t, "rule add pref 777 lookup main")
	expectHint(t, w.Changed())
	ip(t, "rule del pref 777")
	cancel()
	for range w.Changed() {
	}
}

// What somebody does to our own is told of, each of it: nobody looks for it otherwise.
func TestTouched(t *testing.T) {
	for _, c := range []struct{ do, undo string }{
		{"route add 192.0.2.0/24 dev lo table 7001", "route del 192.0.2.0/24 dev lo table 7001"},
		{"-6 route add default dev lo table 7001", "-6 route flush table 7001"},
		{"rule add pref 710 lookup 7001", "rule del pref 710"},
		{"-6 rule add pref 710 from 2001:db8::1 lookup 7001", "-6 rule flush"},
		{"rule add pref 32765 fwmark 0/0xc0ffffff lookup main suppress_prefixlength 0", "rule del pref 32765"},
	} {
		ip(t, c.do)
		t.Cleanup(func() { restoreRules(t) })
		w, err := Watch(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		if w.Touched() {
			t.Error("touched before anything has happened")
		}
		ip(t, c.undo)
		for end := time.Now().Add(10 * time.Second); !w.Touched(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is not told of", c.undo)
			}
		}
	}
}

// restoreRules brings back the rules of IPv6 that a namespace begins with.
func restoreRules(t *testing.T) {
	t.Helper()
	ip(t, "-6 rule flush")
	ip(t, "-6 rule add pref 32766 lookup main")
}
