// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

const (
	// breakAt is when a transfer's first line breaks, and breakEnd when the
	// transfer is cut.
	breakAt  = 4 * time.Second
	breakEnd = 8 * time.Second
	// lag is what an upload's report, whose times count from the server's accept,
	// is behind at most.
	lag = 100 * time.Millisecond
)

// A breakage is what happens to the first of two lines.
type breakage struct {
	name string
	do   func(*rig.Rig) error
}

var breakages = []breakage{
	{"link down", func(r *rig.Rig) error { return r.WANs[0].SetDown() }},
	{"black hole", func(r *rig.Rig) error { r.Link(r.WANs[0].Name).Blackhole(true); return nil }},
}

// stall is of one transfer: how long it stood still, in ms, and its rate in
// bit/s in the half of the time before the line broke.
type stall struct{ ms, rate float64 }

// stalls compares how long a running transfer stands still when a line breaks.
// The two that are compared run at once, each in a world of its own that lives
// only for it; as the worlds are built one after the other, so do their lines
// break.
func (b *bench) stalls(ctx context.Context) error {
	n := 2*b.repeat - 1
	t := newTable(fmt.Sprintf("Longest stall when the 50 of 50 Mbit/s 10 ms + 20 Mbit/s 30 ms breaks, ms: median of %d", n),
		"kernel MPTCP", "worst", "braid", "worst", "ratio", "kernel Mbit/s", "braid Mbit/s")
	ops := []struct {
		name string
		op   traffic.Op
	}{{"download", traffic.Download}, {"upload", traffic.Upload}}
	ways := []func(context.Context, breakage, traffic.Op) (stall, error){b.kernelStall, b.braidStall}

	var errs []error
	for _, br := range breakages {
		all := make([][2][]stall, len(ops))
		for range n {
			for i, op := range ops {
				var mu sync.Mutex
				var wg sync.WaitGroup
				for j, way := range ways {
					wg.Go(func() {
						s, err := way(ctx, br, op.op)
						mu.Lock()
						defer mu.Unlock()
						if err != nil {
							errs = append(errs, fmt.Errorf("%s, %s: %w", br.name, op.name, err))
							return
						}
						all[i][j] = append(all[i][j], s)
					})
				}
				wg.Wait()
			}
			if ctx.Err() != nil {
				return errors.Join(errs...)
			}
		}
		for i, op := range ops {
			kernel, kernelWorst, kernelRate := summary(all[i][0])
			braid, braidWorst, braidRate := summary(all[i][1])
			t.row(br.name+", "+op.name, fmt.Sprintf("%.0f", kernel), fmt.Sprintf("%.0f", kernelWorst),
				fmt.Sprintf("%.0f", braid), fmt.Sprintf("%.0f", braidWorst), fmt.Sprintf("%.2f", braid/kernel),
				fmt.Sprintf("%.1f", kernelRate/1e6), fmt.Sprintf("%.1f", braidRate/1e6))
		}
	}
	return errors.Join(errs...)
}

// summary is the median of the stalls, the longest, and the median of the rates.
func summary(all []stall) (mid, worst, rate float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	var ms, rates []float64
	for _, s := range all {
		ms, rates = append(ms, s.ms), append(rates, s.rate)
	}
	return median(ms), slices.Max(ms), median(rates)
}

func (b *bench) kernelStall(ctx context.Context, br breakage, op traffic.Op) (_ stall, err error) {
	r, err := oneByOne(ctx, b.without)
	if err != nil {
		return stall{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return broken(ctx, r, kernel(r), br, op)
}

func (b *bench) braidStall(ctx context.Context, br breakage, op traffic.Op) (_ stall, err error) {
	r, err := oneByOne(ctx, b.carrying)
	if err != nil {
		return stall{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s, err := broken(ctx, r, r.FromHost(lab.Server4), br, op)
	if err != nil {
		return s, fmt.Errorf("%w\nthe agent says: %s\nthe converter says: %s", err, r.Agent.Log(), r.MCP.Log())
	}
	return s, check(r)
}

// building lets one world be built at a time.
var building sync.Mutex

func oneByOne(ctx context.Context, build func(context.Context, lab.Options) (*rig.Rig, error)) (*rig.Rig, error) {
	building.Lock()
	defer building.Unlock()
	return build(context.WithoutCancel(ctx), over(line(50e6, 10), line(20e6, 30)))
}

// broken makes a transfer whose line breaks on the way.
func broken(ctx context.Context, r *rig.Rig, dial traffic.Dial, br breakage, op traffic.Op) (stall, error) {
	const patience = 12 * time.Second // an upload ends when all of it has arrived
	ctx, cancel := context.WithTimeout(ctx, breakEnd+patience)
	defer cancel()
	breakC := make(chan error, 1)
	timer := time.AfterFunc(breakAt, func() { breakC <- br.do(r) })
	report, err := dial.Do(ctx, op, traffic.Request{
		Bytes: traffic.Endless, For: breakEnd, Interval: breakAt / 2, StallFrom: breakAt - lag,
	})
	if timer.Stop() {
		return stall{}, errors.Join(errors.New("the transfer ended before its line broke"), err)
	}
	if err := errors.Join(<-breakC, err); err != nil {
		return stall{}, err
	}
	return stall{ms: report.Stall.Seconds() * 1e3, rate: report.Intervals[1].Rate()}, nil
}
