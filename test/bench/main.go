// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures braid beside what it has to be measured by: the best
// line alone, and the kernel's MPTCP without any proxy. What is compared takes
// turns within one run, so that the noise of a machine hits all alike; figures
// are medians, and ratios of figures of the same run.
//
//	bench                  everything but stalls and never-slower, under 5 minutes
//	bench -only stalls     one part; these two take some minutes each
//	bench -only soak       half an hour, in which nothing goes on
//	bench -peer            beside sing-box, which it builds from its module, 3 minutes
//	bench -repeat 9        more turns
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// bench is what all parts share.
type bench struct {
	bin    string // directory of braid and braid-mcp
	repeat int
}

// part is a table.
type part struct {
	name string
	run  func(*bench, context.Context) error
	// asked: it takes long, and runs only when it is asked for.
	asked bool
}

var parts = []part{
	{name: "lines", run: (*bench).lines},
	{name: "unshaped", run: (*bench).unshaped},
	{name: "fetch", run: (*bench).fetch},
	{name: "trips", run: (*bench).trips},
	{name: "connections", run: (*bench).connections},
	{name: "on-path", run: (*bench).onPath},
	{name: "memory", run: (*bench).memory},
	{name: "rest", run: (*bench).atRest},
	{name: "idle", run: (*bench).idle, asked: true},
	{name: "soak", run: (*bench).soak, asked: true},
	{name: "stalls", run: (*bench).stalls, asked: true},
	{name: "never-slower", run: (*bench).neverSlower, asked: true},
	{name: peer, run: (*bench).peer, asked: true},
}

// peer is the part for which there is a flag of its own.
const peer = "peer"

func names() string {
	var all []string
	for _, p := range parts {
		name := p.name
		if p.asked {
			name += " (only so)"
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

func main() {
	var b bench
	flag.StringVar(&b.bin, "bin", "bin", "directory of braid and braid-mcp")
	flag.IntVar(&b.repeat, "repeat", 3, "turns that each of those compared has")
	only := flag.String("only", "", "the one part to run: "+names())
	flag.BoolFunc("peer", "compare with sing-box, which is built from its module: -only peer", func(string) error {
		*only = peer
		return nil
	})
	flag.Parse()
	known := slices.ContainsFunc(parts, func(p part) bool { return p.name == *only })
	if flag.NArg() > 0 || b.repeat < 1 || *only != "" && !known {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := b.run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, only string) error {
	fmt.Println(machine())
	var errs []error
	for _, p := range parts {
		if only != "" && p.name != only || only == "" && p.asked {
			continue
		}
		err := p.run(b, ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx) // what broke did so because of it
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// machine says what the figures were measured on.
func machine() string {
	first := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			return "unknown"
		}
		return strings.Fields(string(b))[0]
	}
	return fmt.Sprintf("Linux %s, %d CPUs, load %s, congestion control %s",
		first("/proc/sys/kernel/osrelease"), runtime.NumCPU(), first("/proc/loadavg"), first("/proc/sys/net/ipv4/tcp_congestion_control"))
}
