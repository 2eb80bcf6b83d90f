// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
)

// A wait is a connection that says nothing for long, in a world of its own, and
// what happens meanwhile.
type wait struct {
	name   string
	lines  []lab.Access // nil: the default ones
	uci    string       // empty: the default one
	hosts  int
	long   time.Duration
	begin  func(*rig.Rig) error // when it has fallen silent; nil: nothing
	spoken bool                 // to the host, half way
	end    func(*rig.Rig) error // afterwards, from when on the time counts; nil: nothing
	first  string               // who speaks first afterwards: host or server
	bound  time.Duration        // within which the other one has to hear it, and it the answer
}

// hush is when all that was said is acknowledged. What is not when all lines go
// away is sent again when its end likes, as with any TCP, be it minutes after their
// return.
const hush = 2 * time.Second

// waits are the long silences that houses have. That the laptop was sent
// something while it slept is the harder case: the gateway has sent it again and
// again.
func waits() []wait {
	lte := lab.LTE(link.Spec{}, link.Spec{})
	only := strings.Replace(rig.DefaultUCI, "config wan 'fibre'\n\toption device 'fibre'\n\toption role 'primary'\n", "", 1)
	hole := func(on bool) func(*rig.Rig) error {
		return func(r *rig.Rig) error {
			for _, w := range r.WANs {
				r.Link(w.Name).Blackhole(on)
			}
			return nil
		}
	}
	each := func(do func(*lab.WAN) error) func(*rig.Rig) error {
		return func(r *rig.Rig) (err error) {
			for _, w := range r.WANs {
				err = errors.Join(err, do(w))
			}
			return err
		}
	}
	asleep := func(r *rig.Rig) error { _, err := r.Host().Run("ip link set eth0 down"); return err }
	awake := func(r *rig.Rig) error {
		_, err := r.Host().Run(fmt.Sprintf("ip link set eth0 up; ip route replace default via %v", lab.Gateway4))
		return err
	}
	forgetful := func(r *rig.Rig) error {
		return r.WAN("lte").Router.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", "300")
	}
	return []wait{
		{name: "all lines swallow everything, host", long: 5 * time.Minute, begin: hole(true), end: hole(false), first: "host", bound: 5 * time.Second},
		{name: "all lines swallow everything, server", long: 5 * time.Minute, begin: hole(true), end: hole(false), first: "server", bound: 5 * time.Second},
		// What the converter was given meanwhile it sends again when TCP has it so.
		{name: "the same, spoken to meanwhile", long: 5 * time.Minute, begin: hole(true), spoken: true, end: hole(false), first: "host", bound: 2 * time.Minute},
		{name: "all lines unplugged", long: 5 * time.Minute, begin: each((*lab.WAN).SetDown), end: each((*lab.WAN).SetUp), first: "host", bound: 5 * time.Second},
		{name: "a NAT that forgets after 300 s", lines: []lab.Access{lte}, uci: strings.Replace(only, "'bond'", "'primary'", 1),
			long: 10 * time.Minute, begin: forgetful, first: "server", bound: 2 * time.Second},
		{name: "the same, beside a fibre", long: 10 * time.Minute, begin: forgetful, first: "server", bound: 2 * time.Second},
		{name: "laptop asleep", hosts: 2, long: 30 * time.Minute, begin: asleep, end: awake, first: "host", bound: 5 * time.Second},
		{name: "laptop asleep, server speaks", hosts: 2, long: 30 * time.Minute, begin: asleep, end: awake, first: "server", bound: 5 * time.Second},
		{name: "laptop asleep, spoken to meanwhile", hosts: 2, long: 30 * time.Minute, begin: asleep, spoken: true, end: awake, first: "host", bound: 5 * time.Second},
	}
}

// soak has connections be silent for as long as they are in houses. All worlds
// are there at once: they do nothing.
func (b *bench) soak(ctx context.Context) error {
	t := newTable("Idle connections, after a long time", "silent", "bound, s", "heard, s", "echo, s", "verdict")
	var mu sync.Mutex
	var errs []error
	var waiting sync.WaitGroup
	for _, w := range waits() {
		waiting.Go(func() {
			heard, echo, err := b.waited(ctx, w)
			mu.Lock()
			defer mu.Unlock()
			verdict := "lives"
			switch {
			case err != nil:
				verdict = "ended"
				errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
			case echo > w.bound:
				verdict = "late"
				errs = append(errs, fmt.Errorf("%s: heard after %v, answered after %v", w.name, heard, echo))
			}
			t.row(w.name, w.long.String(), fmt.Sprint(w.bound.Seconds()), fmt.Sprintf("%.2f", heard.Seconds()), fmt.Sprintf("%.2f", echo.Seconds()), verdict)
		})
	}
	waiting.Wait()
	return errors.Join(errs...)
}

// waited has a connection be silent, and tells how long after that who is
// spoken to has heard it, and the other one the answer.
func (b *bench) waited(ctx context.Context, w wait) (heard, echo time.Duration, err error) {
	r, err := func() (*rig.Rig, error) {
		building.Lock()
		defer building.Unlock()
		uci := w.uci
		if uci == "" {
			uci = rig.DefaultUCI
		}
		return b.configured(context.WithoutCancel(ctx), lab.Options{Accesses: w.lines, Hosts: w.hosts}, uci)
	}()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	host, server, err := talk(ctx, r)
	if err != nil {
		return 0, 0, err
	}
	defer host.Close()
	defer server.Close()
	if err := pause(ctx, hush); err != nil {
		return 0, 0, err
	}
	if err := step(r, w.begin); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, w.long/2); err != nil {
		return 0, 0, err
	}
	words := 1 // that the host is to hear
	if w.spoken {
		words++
		if err := say(server); err != nil {
			return 0, 0, err
		}
	}
	if err := pause(ctx, w.long/2); err != nil {
		return 0, 0, err
	}
	if err := step(r, w.end); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	first, second := host, server
	toFirst, toSecond := words, 1
	if w.first == "server" {
		first, second = second, first
		toFirst, toSecond = toSecond, toFirst
	}
	if err := errors.Join(say(first), hear(second, toSecond)); err != nil {
		return 0, 0, fmt.Errorf("what the %s says: %w", w.first, err)
	}
	heard = time.Since(began)
	if err := errors.Join(say(second), hear(first, toFirst)); err != nil {
		return heard, 0, fmt.Errorf("the answer: %w", err)
	}
	return heard, time.Since(began), check(r)
}

func step(r *rig.Rig, do func(*rig.Rig) error) error {
	if do == nil {
		return nil
	}
	return do(r)
}

// talk opens a connection of the LAN host's over which both ends have said
// something.
func talk(ctx context.Context, r *rig.Rig) (host, server net.Conn, err error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := r.Server.Listen(ctx, plain, "tcp", fmt.Sprintf(":%d", echoPort))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
	d.SetMultipathTCP(false)
	if host, err = r.Host().Dial(ctx, d, "tcp", netip.AddrPortFrom(lab.Server4, echoPort).String()); err != nil {
		return nil, nil, err
	}
	if server, err = l.Accept(); err != nil {
		return nil, nil, errors.Join(err, host.Close())
	}
	if err := server.(*net.TCPConn).SetKeepAlive(false); err != nil {
		return nil, nil, errors.Join(err, host.Close(), server.Close())
	}
	return host, server, errors.Join(say(host), hear(server, 1), say(server), hear(host, 1))
}

const word = "still there?"

func say(c io.Writer) error {
	_, err := io.WriteString(c, word)
	return err
}

// hear waits for words, for longer than any retransmission takes.
func hear(c net.Conn, words int) error {
	c.SetReadDeadline(time.Now().Add(3 * time.Minute))
	want := strings.Repeat(word, words)
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	if err == nil && string(got) != want {
		err = fmt.Errorf("%q arrives", got)
	}
	return err
}
