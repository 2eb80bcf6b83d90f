// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// OnPath is what a converter does that stands as a router on its clients' path.
type OnPath struct {
	Interfaces []string       // towards clients
	Clients    []netip.Prefix // of both families
	Lend       netip.Prefix   // of 96 bits; not valid: nothing is lent
	LendTo     LendTo
}

// LendTo says to whose connections an address is lent.
type LendTo struct {
	All      bool
	Learned  bool // those that take it when they are tried
	Prefixes []netip.Prefix
}

// Equal says whether two are the same.
func (o OnPath) Equal(p OnPath) bool {
	return slices.Equal(o.Interfaces, p.Interfaces) && slices.Equal(o.Clients, p.Clients) && o.Lend == p.Lend &&
		o.LendTo.All == p.LendTo.All && o.LendTo.Learned == p.LendTo.Learned && slices.Equal(o.LendTo.Prefixes, p.LendTo.Prefixes)
}

type onPath struct {
	Interfaces []string `toml:"interfaces"`
	Clients    []string `toml:"clients"`
	Lend       string   `toml:"lend"`
	LendTo     any      `toml:"lend_to"` // a word or a list
}

// lendBits leaves room for an IPv4 address.
const lendBits = 96

func (p *parser) parseOnPath(f *onPath) {
	if f == nil {
		return
	}
	const table = "on_path."
	o := OnPath{Interfaces: f.Interfaces}
	if len(f.Interfaces) == 0 {
		p.bad(table+"interfaces", errors.New("none is given"))
	}
	for _, i := range f.Interfaces {
		p.bad(table+"interfaces", interfaceName(i))
	}
	var err error
	o.Clients, err = each(f.Clients, parsePrefix)
	if err == nil && len(o.Clients) == 0 {
		err = errors.New("none is given")
	}
	p.bad(table+"clients", err)
	if f.Lend != "" {
		o.Lend, err = parseLend(f.Lend)
		p.bad(table+"lend", err)
	}
	o.LendTo, err = parseLendTo(f.LendTo)
	p.bad(table+"lend_to", err)
	p.c.OnPath = &o
}

// interfaceName accepts what the kernel accepts (dev_valid_name), but for a
// quotation mark.
func interfaceName(s string) error {
	const most = 15
	bad := func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == '"' || r == '\\' }
	if s == "" || len(s) > most || slices.ContainsFunc([]rune(s), bad) {
		return fmt.Errorf("%q is no name of an interface", s)
	}
	return nil
}

func parseLend(s string) (netip.Prefix, error) {
	prefix, err := parsePrefix(s)
	if err == nil && (!prefix.Addr().Is6() || prefix.Addr().Is4In6() || prefix.Bits() != lendBits) {
		err = fmt.Errorf("%q is no IPv6 prefix of length %d", s, lendBits)
	}
	// RFC 6052, 2.2.
	if err == nil && prefix.Addr().As16()[8] != 0 {
		err = fmt.Errorf("%q: bits 64 to 71 are not 0", s)
	}
	return prefix, err
}

func parseLendTo(v any) (LendTo, error) {
	switch v := v.(type) {
	case nil:
		return LendTo{Learned: true}, nil
	case string:
		switch v {
		case "learned":
			return LendTo{Learned: true}, nil
		case "all":
			return LendTo{All: true}, nil
		}
		return LendTo{}, fmt.Errorf("%q is neither learned, all, nor a list of prefixes", v)
	case []any:
		prefixes, err := each(v, func(e any) (netip.Prefix, error) {
			s, ok := e.(string)
			if !ok {
				return netip.Prefix{}, fmt.Errorf("%v is no prefix", e)
			}
			return parsePrefix(s)
		})
		return LendTo{Prefixes: prefixes}, err
	}
	return LendTo{}, fmt.Errorf("%v is neither learned, all, nor a list of prefixes", v)
}
