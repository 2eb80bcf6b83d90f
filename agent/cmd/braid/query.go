// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"braid/agent/daemon"
	"braid/agent/report"
	"braid/agent/ubus"
)

// queryTimeout bounds a call of the agent.
const queryTimeout = 5 * time.Second

// query asks the agent over ubus and prints its answer: as it is with -json,
// else as a table.
func query(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	f := flags(name, stderr)
	asJSON := f.Bool("json", false, "print the answer as it is")
	socket := f.String("ubus", ubus.DefaultSocket, "socket of ubus")
	limit := 100
	arguments := 0
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
	call := map[string]any{}
	switch name {
	case "connections":
		call["limit"] = limit
	case "explain":
		if len(rest) != 1 {
			fmt.Fprint(stderr, usage)
			return exitUsage
		}
		dest, err := destination(rest[0])
		if err != nil {
			fmt.Fprintln(stderr, "braid explain:", err)
			return exitUsage
		}
		call["dest"], call["port"] = dest.Addr().String(), dest.Port()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	client, err := ubus.Dial(ctx, *socket)
	if err != nil {
		fmt.Fprintf(stderr, "braid %s: asking the agent: %v\n", name, err)
		return exitFailed
	}
	defer client.Close()
	answer, show := answerOf(name)
	if err := client.Call(ctx, daemon.ObjectName, name, call, answer); err != nil {
		fmt.Fprintf(stderr, "braid %s: asking the agent: %v\n", name, err)
		return exitFailed
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "\t")
		err = enc.Encode(answer)
	} else {
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		show(w)
		err = w.Flush()
	}
	if err != nil {
		fmt.Fprintf(stderr, "braid %s: printing: %v\n", name, err)
		return exitFailed
	}
	return exitOK
}

// answerOf gives what a method's answer is read into, and how it is shown.
func answerOf(method string) (answer any, show func(io.Writer)) {
	switch method {
	case "status":
		v := new(report.Status)
		return v, func(w io.Writer) { showStatus(w, v) }
	case "wans":
		v := new(report.WANs)
		return v, func(w io.Writer) { showWANs(w, v.WANs) }
	case "connections":
		v := new(report.Connections)
		return v, func(w io.Writer) { showConnections(w, v) }
	default:
		v := new(report.Explanation)
		return v, func(w io.Writer) { showExplanation(w, v) }
	}
}

// destination reads ADDR, ADDR:PORT or [ADDR]:PORT; the port is 443 unless
// given.
func destination(s string) (netip.AddrPort, error) {
	const https = 443
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, https), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is neither ADDRESS nor ADDRESS:PORT", s)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", host)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no port", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}
