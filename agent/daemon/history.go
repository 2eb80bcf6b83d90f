// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	"braid/agent/history"
	"braid/agent/load"
	"braid/agent/netstate"
	"braid/agent/status"
	"braid/agent/ubus"
)

// defaultSpan is what the method "history" goes back unless told, in seconds.
const defaultSpan = 600

// sampled is what devices had carried at a time.
type sampled struct {
	at       time.Time
	counters map[string]netstate.Traffic
}

// sampleRates remembers what the WANs have carried since it last did.
func (l *loop) sampleRates() {
	known, before, now := l.health.Health(), l.sampled, sampled{}
	now.counters, now.at = l.meter.Counters()
	elapsed := now.at.Sub(before.at)
	if elapsed <= 0 {
		return
	}
	l.sampled = now
	samples := make(map[string]history.Sample, len(l.plan.WANs))
	for _, w := range l.plan.WANs {
		r := load.Since(before.counters[w.Device], now.counters[w.Device], elapsed)
		samples[w.Name] = history.Sample{RX: r.RX, TX: r.TX, RTT: status.Measured(w, known).RTT}
	}
	l.rates.Add(now.at, samples)
}

func (d *Daemon) handleHistory(_ context.Context, r *ubus.Request) (any, error) {
	args := struct {
		Span int `json:"span"`
	}{Span: defaultSpan}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	span := time.Duration(args.Span) * time.Second
	if args.Span < 1 || span > history.MaxSpan {
		return nil, fmt.Errorf("span %d: %w", args.Span, ubus.ErrInvalidArgument)
	}
	return d.rates.Report(span, d.view.Names()), nil
}

func (d *Daemon) handleEvents(_ context.Context, r *ubus.Request) (any, error) {
	var args struct {
		Since int `json:"since"`
	}
	if err := r.Args(&args); err != nil {
		return nil, err
	}
	return d.events.Report(time.Now(), args.Since), nil
}
