// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"braid/agent/daemon"
	"braid/agent/report"
	"braid/agent/ubus"
)

const (
	// watchInterval is between two looks at the rates.
	watchInterval = time.Second
	// watchedEvents are shown on a terminal.
	watchedEvents = 10
)

// clear puts the cursor into the upper left corner and clears what is below.
const clear = "\x1b[H\x1b[J"

// watch shows rates and events until it is interrupted: on a terminal as a
// picture that is drawn anew, else line by line.
func watch(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	f := flags(name, stderr)
	socket := f.String("ubus", ubus.DefaultSocket, "socket of ubus")
	if _, ok := parse(f, args, 0); !ok {
		return exitUsage
	}
	client := ubus.NewClient(*socket)
	eventC := make(chan ubus.Event, 64)
	if _, err := client.Listen(daemon.ObjectName+".*", func(e ubus.Event) { eventC <- e }); err != nil {
		fmt.Fprintf(stderr, "braid %s: %v\n", name, err)
		return exitFailed
	}
	ctx, stop := context.WithCancel(ctx)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		client.Run(ctx)
	}()
	defer func() {
		stop()
		for { // handlers may wait for us
			select {
			case <-eventC:
			case <-doneC:
				return
			}
		}
	}()

	w := &watcher{client: client, out: stdout, live: terminal(stdout), colour: colourful(stdout)}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	// The first connection may take a moment.
	select {
	case <-client.Ready():
	case <-ticker.C:
	case <-ctx.Done():
		return exitOK
	}
	for {
		if err := w.look(ctx); err != nil {
			fmt.Fprintf(stderr, "braid %s: printing: %v\n", name, err)
			return exitFailed
		}
		select {
		case <-ctx.Done():
			return exitOK
		case e := <-eventC:
			w.event(e)
			for len(eventC) > 0 { // the rest of a burst
				w.event(<-eventC)
			}
		case <-ticker.C:
		}
	}
}

// watcher is what braid watch shows.
type watcher struct {
	client *ubus.Client
	out    io.Writer
	live   bool // out is a terminal
	colour bool

	events []string // the last ones
	last   string   // why the agent cannot be asked, when that was so
	due    time.Time
}

// event notes an event; without a terminal it is a line at once.
func (w *watcher) event(e ubus.Event) {
	text := time.Now().Format(time.TimeOnly) + " " + describe(e)
	w.events = append(w.events, text)
	if w.live {
		w.events = w.events[max(0, len(w.events)-watchedEvents):]
	}
}

// look asks for the WANs and shows them.
func (w *watcher) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var v report.WANs
	err := w.client.Call(ctx, daemon.ObjectName, "wans", struct{}{}, &v)
	away := ""
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return nil // interrupted
	case errors.Is(err, ubus.ErrNotFound):
		away = "the agent does not run"
	case err != nil:
		away = "the agent cannot be asked: " + err.Error()
	}
	s := screen{colour: w.colour}
	if w.live {
		w.draw(&s, v.WANs, away)
	} else {
		w.lines(&s, v.WANs, away)
	}
	_, err = s.WriteTo(w.out)
	return err
}

func (w *watcher) draw(s *screen, wans []report.WAN, away string) {
	s.WriteString(clear)
	switch {
	case away != "":
		s.line("%s", away)
	case len(wans) == 0:
		s.line("there is no WAN: braid is disabled, or not configured")
	default:
		showRates(s, wans)
		for _, x := range wans {
			if x.Reason != "" {
				s.line("%s: %s", x.Name, x.Reason)
			}
		}
	}
	s.line("")
	for _, e := range w.events {
		s.line("%s", e)
	}
}

// lines prints the events there were, and once in an interval the WANs.
func (w *watcher) lines(s *screen, wans []report.WAN, away string) {
	for _, e := range w.events {
		s.WriteString(e + "\n")
	}
	w.events = nil
	now := time.Now()
	stamp := now.Format(time.TimeOnly)
	if away != w.last && away != "" {
		fmt.Fprintf(s, "%s %s\n", stamp, away)
	}
	w.last = away
	if now.Before(w.due) {
		return
	}
	w.due = now.Add(watchInterval / 2)
	for _, x := range wans {
		fmt.Fprintf(s, "%s %s %s %s rtt %s loss %s rx %s tx %s\n", stamp, x.Name, x.State, x.EffectiveRole,
			milliseconds(x.RTT), percent(x.Loss), rate(x.RXRate), rate(x.TXRate))
	}
}

// describe puts an event into words.
func describe(e ubus.Event) string {
	switch e.Name {
	case "braid.wan", "braid.modem":
		var v report.WANEvent // a modem's is like it
		if e.Data.Unmarshal(&v) == nil {
			if e.Name == "braid.modem" {
				v.WAN = "modem of " + v.WAN
			}
			return strings.TrimSuffix(fmt.Sprintf("%s: %s -> %s: %s", v.WAN, v.From, v.To, v.Reason), ": ")
		}
	case "braid.converter":
		var v report.ConverterEvent
		if e.Data.Unmarshal(&v) == nil {
			return fmt.Sprintf("converter %s: %s -> %s", v.Name, v.From, v.To)
		}
	case "braid.quota":
		var v report.QuotaEvent
		if e.Data.Unmarshal(&v) == nil {
			return v.WAN + ": " + v.Entry().Reason
		}
	case "braid.config":
		var v report.ConfigEvent
		if e.Data.Unmarshal(&v) == nil && v.OK {
			return "configuration read"
		}
		return fmt.Sprintf("configuration not taken: %d problems, see braid status", len(v.Problems))
	}
	return e.Name
}
