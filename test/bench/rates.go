// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"braid/test/lab"
	"braid/test/link"
	"braid/test/rig"
	"braid/test/traffic"
)

// pairs are those of lines that are compared, the better one first.
var pairs = []struct {
	name            string
	fixed, cellular link.Spec
}{
	{"100 + 50 Mbit/s, 0 ms", line(100e6, 0), line(50e6, 0)},
	{"50 Mbit/s 10 ms + 20 Mbit/s 30 ms", line(50e6, 10), line(20e6, 30)},
	{"12 Mbit/s 15 ms + 1 Mbit/s 150 ms", line(12e6, 15), line(1e6, 150)},
}

// line has a rate in bit/s, a one-way delay in ms, and a queue of 100 ms.
func line(rate int64, ms time.Duration) link.Spec {
	return link.Spec{Rate: rate, Delay: ms * time.Millisecond, Queue: 100 * time.Millisecond}
}

// over is a world with two lines, each of them the same in both directions.
func over(fixed, cellular link.Spec) lab.Options {
	return lab.Options{Accesses: []lab.Access{lab.Fibre(fixed, fixed), lab.LTE(cellular, cellular)}}
}

// payload is the share of a full packet: IPv4, TCP with timestamps.
const payload = 1448.0 / 1500

// lines compares downloads over pairs of lines.
func (b *bench) lines(ctx context.Context) error {
	const length = 5 * time.Second
	t := b.rateTable("Download over two lines", "Mbit/s", length, "of capacity")
	var errs []error
	for _, p := range pairs {
		capacity := float64(p.fixed.Rate+p.cellular.Rate) * payload
		r, err := b.rates(ctx, over(p.fixed, p.cellular), length)
		errs = append(errs, err)
		t.row(p.name, append(r.cells(1e6), fmt.Sprintf("%.1f %%", 100*r.braid/capacity))...)
	}
	return errors.Join(errs...)
}

// unshaped compares downloads over lines that only the machine limits.
func (b *bench) unshaped(ctx context.Context) error {
	const length = 3 * time.Second
	t := b.rateTable("Download, unshaped", "Gbit/s", length)
	r, err := b.rates(ctx, lab.Options{Veth: true}, length)
	t.row("two veth pairs", r.cells(1e9)...)
	return err
}

func (b *bench) rateTable(title, unit string, length time.Duration, more ...string) *table {
	return newTable(fmt.Sprintf("%s, %s: median of %d, %v each, the first fifth not counted", title, unit, b.repeat, length),
		append([]string{"one line", "kernel MPTCP", "braid", "to one", "to kernel",
			"braid s/GB", "mcp s/GB", "braid MB", "mcp MB"}, more...)...)
}

// rates are those of one row in bit/s, and what braid's took.
type rates struct {
	alone, kernel, braid float64
	agent, mcp           cost
}

// cost is what a program took: CPU seconds per GB of 10^9 bytes, and the most
// memory it ever had, in bytes.
type cost struct {
	cpu  float64
	peak int64
}

func (r rates) cells(unit float64) []string {
	return []string{
		fmt.Sprintf("%.1f", r.alone/unit), fmt.Sprintf("%.1f", r.kernel/unit), fmt.Sprintf("%.1f", r.braid/unit),
		fmt.Sprintf("%.2f", r.braid/r.alone), fmt.Sprintf("%.2f", r.braid/r.kernel),
		fmt.Sprintf("%.2f", r.agent.cpu), fmt.Sprintf("%.2f", r.mcp.cpu),
		fmt.Sprintf("%.1f", float64(r.agent.peak)/1e6), fmt.Sprintf("%.1f", float64(r.mcp.peak)/1e6),
	}
}

// rates measures downloads over the lines of a world.
func (b *bench) rates(ctx context.Context, o lab.Options, length time.Duration) (r rates, err error) {
	d, err := b.bed(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }()

	var alone, kernel, braid []float64
	var bytes int64 // that braid carried
	agent, mcp := meter{p: d.braid.Agent}, meter{p: d.braid.MCP}
	for range b.repeat {
		for _, way := range []struct {
			dial  traffic.Dial
			rates *[]float64
		}{{d.alone(), &alone}, {d.kernel(), &kernel}} {
			rate, _, err := download(ctx, way.dial, length)
			if err != nil {
				return r, err
			}
			*way.rates = append(*way.rates, rate)
		}
		err := errors.Join(agent.start(), mcp.start())
		rate, n, downloadErr := download(ctx, d.carried(), length)
		if err := errors.Join(err, downloadErr, agent.stop(), mcp.stop()); err != nil {
			return r, err
		}
		braid = append(braid, rate)
		bytes += n
	}
	r = rates{median(alone), median(kernel), median(braid), agent.cost(bytes), mcp.cost(bytes)}
	return r, d.check()
}

// download returns the rate in bit/s after the first fifth of the time, and
// all bytes.
func download(ctx context.Context, dial traffic.Dial, length time.Duration) (rate float64, bytes int64, err error) {
	report, err := dial.Do(ctx, traffic.Download, traffic.Request{Bytes: traffic.Endless, For: length, Interval: length / 5})
	if err != nil {
		return 0, 0, err
	}
	first := report.Intervals[0]
	rate = float64(report.Bytes-first.Bytes) * 8 / (report.Duration - first.To).Seconds()
	return rate, report.Bytes, nil
}

// meter adds up what a process takes between start and stop.
type meter struct {
	p    *rig.Process
	from time.Duration
	cpu  time.Duration
	peak int64
}

func (m *meter) start() error {
	u, err := m.p.Usage()
	m.from = u.CPU
	return err
}

func (m *meter) stop() error {
	u, err := m.p.Usage()
	m.cpu += u.CPU - m.from
	m.peak = u.Peak
	return err
}

func (m *meter) cost(bytes int64) cost {
	return cost{cpu: m.cpu.Seconds() / (float64(bytes) / 1e9), peak: m.peak}
}
