// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"braid/agent/report"
)

// output is what a program prints while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// await waits for a text, and forgets what was printed up to it.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		o.mu.Lock()
		_, after, found := strings.Cut(o.b.String(), text)
		if found {
			o.b.Reset()
			o.b.WriteString(after)
		}
		all := o.b.String()
		o.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %q in\n%s", text, all)
		}
	}
}

// Without a terminal braid watch prints lines. It starts before the agent,
// and stays when that goes and comes.
func TestWatchLines(t *testing.T) {
	socket := startBus(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs output
	statusC := make(chan int, 1)
	go func() { statusC <- run(ctx, []string{"watch", "-ubus", socket}, &out, &errs) }()
	out.await(t, "the agent does not run\n")
	a := startAgent(t, socket)
	out.await(t, "fibre up primary rtt 21 ms loss 0 % rx 48.1 Mbit/s tx 9.9 kbit/s\n")
	for _, e := range []struct {
		name string
		data any
		says string
	}{
		{"braid.wan", report.WANEvent{WAN: "fibre", From: "up", To: "down", Reason: "no carrier"}, "fibre: up -> down: no carrier\n"},
		{"braid.wan", report.WANEvent{WAN: "fibre", From: "down", To: "up"}, "fibre: down -> up\n"},
		{"braid.converter", report.ConverterEvent{Name: "mcp", From: "up", To: "refused"}, "converter mcp: up -> refused\n"},
		{"braid.modem", report.ModemEvent{WAN: "lte", From: "home", To: "denied", Reason: "illegal modem"}, "modem of lte: home -> denied: illegal modem\n"},
		{"braid.modem", report.ModemEvent{WAN: "lte", From: "denied", To: "home"}, "modem of lte: denied -> home\n"},
		{"braid.quota", report.QuotaEvent{WAN: "lte", Percent: 80}, "lte: 80 % of the quota is used\n"},
		{"braid.config", report.ConfigEvent{OK: true}, "configuration read\n"},
		{"braid.config", report.ConfigEvent{Problems: []report.Problem{{}}}, "configuration not taken: 1 problems"},
		{"braid.future", report.ConfigEvent{}, "braid.future\n"},
	} {
		if err := a.client.Send(t.Context(), e.name, e.data); err != nil {
			t.Fatal(err)
		}
		out.await(t, e.says)
	}
	if err := a.client.Close(); err != nil {
		t.Fatal(err)
	}
	out.await(t, "the agent does not run\n")
	startAgent(t, socket)
	out.await(t, "fibre up primary")
	cancel()
	select {
	case status := <-statusC:
		if status != exitOK {
			t.Errorf("status %d: %s", status, errs.b.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	if errs.b.Len() > 0 {
		t.Error(errs.b.String())
	}
}

// On a terminal it draws.
func TestWatchDraws(t *testing.T) {
	w := watcher{live: true}
	var s screen
	w.draw(&s, someWANs(), "")
	out := s.String()
	if !strings.HasPrefix(out, clear) || !strings.Contains(out, "48.1 Mbit/s") || !strings.Contains(out, "degraded") {
		t.Errorf("%q", out)
	}
}
