// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"braid/test/lab"
	"braid/test/traffic"
)

// fetch compares how long a small object takes from a server 20 ms away.
func (b *bench) fetch(ctx context.Context) error {
	const bytes, warm = 64 << 10, 2
	n := 7 * b.repeat
	t := newTable(fmt.Sprintf("Object of 64 kB, round trip 20 ms, ms: median of %d", n), "without", "braid", "ratio")
	behind := over(line(100e6, 0), line(50e6, 0))
	behind.ServerDelay = 10 * time.Millisecond
	var errs []error
	for _, c := range []struct {
		name string
		o    lab.Options
	}{
		{"20 ms on the line, 50 + 20 Mbit/s", over(line(50e6, 10), line(20e6, 30))},
		{"20 ms behind the converter, 100 + 50", behind},
	} {
		alone, carried, err := b.times(ctx, c.o, bytes, warm, n)
		errs = append(errs, err)
		t.row(c.name, fmt.Sprintf("%.1f", alone), fmt.Sprintf("%.1f", carried), fmt.Sprintf("%.2f", carried/alone))
	}
	return errors.Join(errs...)
}

// times returns the medians of n downloads in ms. Some go before, as a
// household's connections have: they bring what is learnt only once, such as
// TCP Fast Open's cookie.
func (b *bench) times(ctx context.Context, o lab.Options, bytes int64, warm, n int) (alone, carried float64, err error) {
	d, err := b.bed(ctx, o)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	ways := []traffic.Dial{d.alone(), d.carried()}
	ms := make([][]float64, len(ways))
	for i := range warm + n {
		for j, dial := range ways {
			report, err := dial.Do(ctx, traffic.Download, traffic.Request{Bytes: bytes})
			if err != nil {
				return 0, 0, err
			}
			if i >= warm {
				ms[j] = append(ms[j], report.Duration.Seconds()*1e3)
			}
		}
	}
	return median(ms[0]), median(ms[1]), d.check()
}

// connections compares how many short connections there can be.
func (b *bench) connections(ctx context.Context) (err error) {
	load := traffic.Load{Clients: 16, Bytes: 1000, For: 2 * time.Second}
	t := newTable(fmt.Sprintf("Connections a second, %d clients, %d bytes each, unshaped: median of %d, %v each",
		load.Clients, load.Bytes, b.repeat, load.For), "without", "braid", "ratio", "slowest, ms", "failures")
	d, err := b.bed(ctx, lab.Options{Veth: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	ways := []traffic.Dial{d.alone(), d.carried()}
	rates := make([][]float64, len(ways))
	var slowest time.Duration
	failures := 0
	var errs []error
	for range b.repeat {
		for i, dial := range ways {
			report, err := run(ctx, dial, load)
			errs = append(errs, err)
			failures += report.Failures
			rates[i] = append(rates[i], report.PerSecond())
			slowest = max(slowest, report.Latency.Max)
		}
	}
	alone, carried := median(rates[0]), median(rates[1])
	t.row("two veth pairs", fmt.Sprintf("%.0f", alone), fmt.Sprintf("%.0f", carried),
		fmt.Sprintf("%.2f", carried/alone), fmt.Sprintf("%.0f", slowest.Seconds()*1e3), fmt.Sprint(failures))
	return errors.Join(append(errs, d.check())...)
}

// run puts a load on a server. A connection that hangs is a failure.
func run(ctx context.Context, dial traffic.Dial, load traffic.Load) (traffic.LoadReport, error) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, load.For+patience)
	defer cancel()
	report, err := dial.Run(ctx, load)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		err = fmt.Errorf("%d of %d connections did not end well, one of them: %s",
			report.Failures, report.Failures+report.Connections, first)
	}
	return report, err
}
