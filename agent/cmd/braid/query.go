// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"braid/agent/daemon"
	"braid/agent/report"
	"braid/agent/ubus"
)

const (
	// queryTimeout bounds a call of the agent.
	queryTimeout = 5 * time.Second
	// defaultLimit is how many connections are shown, pageSize how many the
	// agent gives in one answer.
	defaultLimit = 100
	pageSize     = 500
)

// query asks the agent over ubus and prints its answer: as it is with -json,
// else as a table.
func query(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	f := flags(name, stderr)
	asJSON := f.Bool("json", false, "print the answer as it is")
	socket := f.String("ubus", ubus.DefaultSocket, "socket of ubus")
	limit, arguments := defaultLimit, 0
	switch name {
	case "connections":
		f.IntVar(&limit, "limit", limit, "show at most so many")
	case "explain":
		arguments = 1
	}
	rest, ok := parse(f, args, arguments)
	if !ok {
		return exitUsage
	}
	if len(rest) < arguments || limit < 1 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "braid %s: %v\n", name, err)
		return exitFailed
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()

	var dest destination
	if name == "explain" {
		var err error
		if dest, err = lookup(ctx, rest[0]); errors.Is(err, errDestination) {
			fmt.Fprintf(stderr, "braid %s: %v\n", name, err)
			return exitUsage
		} else if err != nil {
			return fail(err)
		}
	}
	client, err := ubus.Dial(ctx, *socket)
	if err != nil {
		return fail(fmt.Errorf("asking the agent: %w", err))
	}
	defer client.Close()
	answer, show, err := ask(ctx, client, name, limit, dest)
	switch {
	case errors.Is(err, ubus.ErrNotFound):
		return fail(errors.New("the agent does not run"))
	case err != nil:
		return fail(fmt.Errorf("asking the agent: %w", err))
	case *asJSON:
		var text []byte
		if text, err = ubus.JSON(answer); err == nil {
			_, err = stdout.Write(text)
		}
	default:
		s := screen{colour: colourful(stdout)}
		show(&s)
		_, err = s.WriteTo(stdout)
	}
	if err != nil {
		return fail(fmt.Errorf("printing: %w", err))
	}
	return exitOK
}

// ask makes the call of a subcommand, and says how its answer is shown.
func ask(ctx context.Context, c *ubus.Client, name string, limit int, dest destination) (answer any, show func(*screen), err error) {
	call := func(args, reply any) error { return c.Call(ctx, daemon.ObjectName, name, args, reply) }
	switch name {
	case "status":
		v := new(report.Status)
		return v, func(s *screen) { showStatus(s, v) }, call(struct{}{}, v)
	case "wans":
		v := new(report.WANs)
		return v, func(s *screen) { showWANs(s, v.WANs) }, call(struct{}{}, v)
	case "connections":
		v, err := connections(limit, call)
		return v, func(s *screen) { showConnections(s, v) }, err
	default:
		v := new(report.Explanation)
		return v, func(s *screen) { showExplanation(s, dest, v) }, call(dest, v)
	}
}

// connections asks page by page.
func connections(limit int, call func(args, reply any) error) (*report.Connections, error) {
	all := &report.Connections{Connections: []report.Connection{}}
	for {
		var page report.Connections
		args := map[string]int{"offset": len(all.Connections), "limit": min(limit-len(all.Connections), pageSize)}
		if err := call(args, &page); err != nil {
			return nil, err
		}
		all.Connections = append(all.Connections, page.Connections...)
		all.Total = page.Total
		if len(page.Connections) == 0 || len(all.Connections) >= min(limit, all.Total) {
			return all, nil
		}
	}
}
