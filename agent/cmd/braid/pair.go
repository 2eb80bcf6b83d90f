// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"braid/agent/config"
	"braid/agent/converter"
	"braid/agent/path"
	"braid/agent/uci"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// pairing is what a converter's "braid-mcp add" prints, without the scheme.
type pairing struct{ host, port, key string }

func parsePairing(text string) (p pairing, err error) {
	text, ok := strings.CutPrefix(text, "braid://")
	where, key, hasKey := strings.Cut(text, "#")
	if ok = ok && hasKey; ok {
		p.host, p.port, err = net.SplitHostPort(where)
	}
	if p.key = key; !ok || err != nil {
		return p, errors.New("that is not braid://HOST:PORT#KEY, as the converter prints it")
	}
	return p, nil
}

// converter is the section that the configuration is to get.
func (p pairing) converter() (config.Converter, error) {
	sections, err := uci.FromList([]map[string]any{{
		".type": "converter", ".name": "mcp", ".anonymous": false,
		"address": []any{p.host}, "port": p.port, "key": p.key,
	}})
	if err != nil {
		return config.Converter{}, err
	}
	c, problems := config.Parse(uci.Package{Sections: sections})
	if err := problems.Err(); err != nil {
		return config.Converter{}, fmt.Errorf("%s: %s", problems[0].Option, problems[0].Message)
	}
	return c.Converters[0], nil
}

// pair tries whether a converter knows a key, and prints what is to go into the
// configuration.
func pair(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	rest, ok := parse(flags(name, stderr), args, 1)
	if !ok {
		return exitUsage
	}
	if len(rest) != 1 {
		fmt.Fprintf(stderr, "braid pair: what the converter has printed is missing\n%s", usage)
		return exitUsage
	}
	p, err := parsePairing(rest[0])
	var c config.Converter
	if err == nil {
		c, err = p.converter()
	}
	if err != nil {
		fmt.Fprintln(stderr, "braid pair:", err)
		return exitUsage
	}
	if err := try(ctx, c); err != nil {
		fmt.Fprintln(stderr, "braid pair:", err)
		return exitFailed
	}
	fmt.Fprintf(stdout, "config converter 'mcp'\n\tlist address '%s'\n\toption port '%d'\n\toption key '%s'\n",
		c.Addresses[0], c.Port, p.key)
	return exitOK
}

// try asks a converter at each of its addresses, until it knows us at one.
func try(ctx context.Context, c config.Converter) error {
	host := c.Addresses[0].String()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	m := converter.NewMonitor(journal.New(io.Discard), new(mptcp.Dialer), new(proof.Wallet))
	var errs []error
	for _, a := range addrs {
		way := converter.Way{Way: path.Way{Peer: netip.AddrPortFrom(a.Unmap(), c.Port)}}
		s := m.Try(ctx, converter.Target{Name: c.Name, Key: string(c.Key), Ways: []converter.Way{way}})
		switch s.State {
		case path.ConverterUp, path.ConverterFull:
			return nil
		case path.ConverterRefused:
			s.Err = fmt.Errorf("the key is not known there: %w", s.Err)
		}
		errs = append(errs, fmt.Errorf("%s port %s: %w", a, strconv.Itoa(int(c.Port)), s.Err))
	}
	return errors.Join(errs...)
}
