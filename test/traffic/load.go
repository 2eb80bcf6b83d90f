// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Load is many short downloads, one after the other on each of some clients.
type Load struct {
	Clients int
	Bytes   int64
	// For ends the load, after the downloads that then are under way.
	For time.Duration
}

// A LoadReport tells how a Load went.
type LoadReport struct {
	Connections int // complete
	Failures    int
	Duration    time.Duration
	Latency     Latency // from dial to the end of the data
}

// PerSecond is the number of complete connections.
func (r LoadReport) PerSecond() float64 { return float64(r.Connections) / r.Duration.Seconds() }

func (r LoadReport) String() string {
	return fmt.Sprintf("%d connections in %v, %.0f/s, %d failures, %v",
		r.Connections, r.Duration.Round(time.Millisecond), r.PerSecond(), r.Failures, r.Latency)
}

// Run puts the load on a server. The error joins the first of each client.
func (d Dial) Run(ctx context.Context, l Load) (LoadReport, error) {
	var mu sync.Mutex
	var report LoadReport
	var all []time.Duration
	var errs []error

	start := time.Now()
	var wg sync.WaitGroup
	for range l.Clients {
		wg.Go(func() {
			var times []time.Duration
			var first error
			failures := 0
			for ctx.Err() == nil && time.Since(start) < l.For {
				r, err := d.Do(ctx, Download, Request{Bytes: l.Bytes})
				if err != nil {
					if failures++; first == nil {
						first = err
					}
					time.Sleep(10 * time.Millisecond) // a refusal comes at once
					continue
				}
				times = append(times, r.Duration)
			}
			mu.Lock()
			defer mu.Unlock()
			report.Failures += failures
			all = append(all, times...)
			errs = append(errs, first)
		})
	}
	wg.Wait()
	report.Duration = time.Since(start)
	report.Connections = len(all)
	report.Latency = newLatency(all)
	return report, errors.Join(append(errs, ctx.Err())...)
}

// Latency is a distribution of times.
type Latency struct {
	Min, Mean, P50, P90, P99, Max time.Duration
}

func newLatency(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	at := func(percent int) time.Duration { return times[(len(times)-1)*percent/100] }
	return Latency{
		Min: times[0], Mean: sum / time.Duration(len(times)),
		P50: at(50), P90: at(90), P99: at(99), Max: times[len(times)-1],
	}
}

func (l Latency) String() string {
	us := func(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
	return fmt.Sprintf("min %v, mean %v, p50 %v, p90 %v, p99 %v, max %v",
		us(l.Min), us(l.Mean), us(l.P50), us(l.P90), us(l.P99), us(l.Max))
}
