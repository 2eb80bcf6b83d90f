// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the converter's configuration, a TOML file whose keys
// docs/convert.md describes.
package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"

	"github.com/BurntSushi/toml"
)

// Defaults.
const (
	DefaultFile        = "/etc/braid-mcp.toml"
	DefaultListen      = "[::]:5124"
	DefaultMetrics     = "127.0.0.1:9124"
	DefaultConnections = 4096
)

// maxCookie keeps a cookie and everything beside it within one Convert
// message.
const maxCookie = 64

// Config is a complete, valid configuration.
type Config struct {
	Listen            []netip.AddrPort
	Announce          []netip.Addr // signalled to clients; empty: the interfaces' own
	Metrics           string       // host:port of the Prometheus endpoint; empty: none
	AllowDestinations []netip.Prefix
	Clients           []Client
}

// Client is who may use the converter: whoever comes from one of the networks
// or shows the cookie.
type Client struct {
	Name        string
	Cookie      []byte // nil: none
	Networks    []netip.Prefix
	Connections int // at once
}

// file mirrors the TOML file.
type file struct {
	Listen            []string `toml:"listen"`
	Announce          []string `toml:"announce"`
	Metrics           *string  `toml:"metrics"`
	AllowDestinations []string `toml:"allow_destinations"`
	Clients           []struct {
		Name        string   `toml:"name"`
		Cookie      string   `toml:"cookie"`
		Networks    []string `toml:"networks"`
		Connections *int     `toml:"connections"`
	} `toml:"client"`
}

// Load reads a file and adds what the command line says: listen replaces the
// file's, each network becomes a client. With an empty name the default file
// is read if there is one. All that is wrong is reported at once, each with
// the file and the key.
func Load(name string, listen, networks []string) (Config, error) {
	var f file
	var errs []error
	wanted := name != ""
	if !wanted {
		name = DefaultFile
	}
	md, err := toml.DecodeFile(name, &f)
	var syntax toml.ParseError
	switch {
	case errors.Is(err, fs.ErrNotExist) && !wanted:
	case errors.As(err, &syntax):
		return Config{}, fmt.Errorf("%s:%d: %s", name, syntax.Position.Line, syntax.Message)
	case err != nil:
		return Config{}, fmt.Errorf("reading %s: %w", name, err)
	}
	for _, key := range md.Undecoded() {
		errs = append(errs, fmt.Errorf("%s: %s: unknown key", name, key))
	}
	c, fileErrs := f.parse()
	for _, err := range fileErrs {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	errs = append(errs, c.addFlags(listen, networks)...)
	if len(errs) == 0 && len(c.Clients) == 0 {
		errs = append(errs, fmt.Errorf("no client may use this converter: give -client PREFIX or a [[client]] in %s", name))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (f file) parse() (Config, []error) {
	c := Config{Metrics: DefaultMetrics}
	var errs []error
	bad := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if len(f.Listen) == 0 {
		f.Listen = []string{DefaultListen}
	}
	var err error
	c.Listen, err = each(f.Listen, parseListen)
	bad("listen", err)
	c.Announce, err = each(f.Announce, parseAnnounce)
	bad("announce", err)
	c.AllowDestinations, err = each(f.AllowDestinations, parsePrefix)
	bad("allow_destinations", err)
	if f.Metrics != nil {
		c.Metrics = *f.Metrics
	}
	if c.Metrics != "" {
		_, err = netip.ParseAddrPort(c.Metrics)
		bad("metrics", err)
	}
	cookies := make(map[string]string)
	for i, fc := range f.Clients {
		cl := Client{Name: fc.Name, Connections: DefaultConnections}
		if cl.Name == "" {
			cl.Name = "client " + strconv.Itoa(i+1)
		}
		key := "client[" + strconv.Itoa(i) + "]."
		cl.Networks, err = each(fc.Networks, parsePrefix)
		bad(key+"networks", err)
		if fc.Cookie != "" {
			cl.Cookie, err = hex.DecodeString(fc.Cookie)
			bad(key+"cookie", err)
			if len(cl.Cookie) > maxCookie {
				bad(key+"cookie", fmt.Errorf("%d bytes, at most %d", len(cl.Cookie), maxCookie))
			}
			if other, ok := cookies[string(cl.Cookie)]; ok {
				bad(key+"cookie", fmt.Errorf("is that of %q too", other))
			}
			cookies[string(cl.Cookie)] = cl.Name
		}
		if fc.Cookie == "" && len(fc.Networks) == 0 {
			bad("client["+strconv.Itoa(i)+"]", errors.New("needs a cookie or networks"))
		}
		if fc.Connections != nil {
			cl.Connections = *fc.Connections
			if cl.Connections < 1 {
				bad(key+"connections", fmt.Errorf("%d, at least 1", cl.Connections))
			}
		}
		c.Clients = append(c.Clients, cl)
	}
	return c, errs
}

func (c *Config) addFlags(listen, networks []string) (errs []error) {
	if len(listen) > 0 {
		var err error
		if c.Listen, err = each(listen, parseListen); err != nil {
			errs = append(errs, fmt.Errorf("-listen: %w", err))
		}
	}
	for _, n := range networks {
		p, err := parsePrefix(n)
		if err != nil {
			errs = append(errs, fmt.Errorf("-client: %w", err))
			continue
		}
		c.Clients = append(c.Clients, Client{Name: p.String(), Networks: []netip.Prefix{p}, Connections: DefaultConnections})
	}
	return errs
}

func each[T any](in []string, parse func(string) (T, error)) (out []T, err error) {
	for _, s := range in {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// parseListen accepts ADDR:PORT, [ADDR]:PORT, :PORT, and an address alone.
func parseListen(s string) (netip.AddrPort, error) {
	if len(s) > 1 && s[0] == ':' {
		s = "[::]" + s
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, netip.MustParseAddrPort(DefaultListen).Port()), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err == nil && ap.Port() == 0 {
		err = fmt.Errorf("%q: port 0", s)
	}
	return ap, err
}

func parseAnnounce(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && (!a.IsGlobalUnicast() || a.Zone() != "") {
		err = fmt.Errorf("%q is no unicast address", s)
	}
	return a, err
}

// parsePrefix accepts a prefix or a single address.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits set beyond its length, meant %v?", s, p.Masked())
	}
	return p, nil
}
