// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the converter's configuration, a TOML file and a
// directory of clients beside it, whose keys braid-mcp(8) describes.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/BurntSushi/toml"

	"braid/transport/journal"
)

// Defaults.
const (
	DefaultFile        = "/etc/braid-mcp.toml"
	DefaultListen      = "[::]:5124"
	DefaultMetrics     = "127.0.0.1:9124"
	DefaultConnections = 4096
	DefaultPending     = 1024
	DefaultDrain       = 5 * time.Second
)

// defaultDenyPorts are closed to clients unless the file says otherwise: who
// relays mail for all is on every list of spammers within a day.
var defaultDenyPorts = []uint16{25}

// The length of a cookie, in bytes: one that cannot be guessed, and that fits
// one Convert message with everything beside it.
const (
	minCookie = 16
	maxCookie = 64
)

// Config is a complete, valid configuration.
type Config struct {
	Listen            []netip.AddrPort
	Announce          []netip.Addr // signalled to clients; empty: the interfaces' own
	Source            []netip.Addr // to send to servers from, in turn; empty: what the routing table gives
	Metrics           string       // host:port of the Prometheus endpoint; empty: none
	AddressLog        string       // file of a line for each connection; empty: none
	LogLevel          journal.Level
	Drain             time.Duration // for what is open, after SIGTERM
	Rate              int           // kbit/s of all clients, both directions together, which they share; 0: no limit
	AllowDestinations []netip.Prefix
	DenyDestinations  []netip.Prefix
	DenyPorts         []uint16
	Clients           []Client
	OnPath            *OnPath // nil: not on the path
	Warnings          []string
}

// Client is who may use the converter: whoever comes from one of the networks,
// shows the cookie or proves the key.
type Client struct {
	Name         string
	Key          []byte // nil: none
	Cookie       []byte // nil: none
	Networks     []netip.Prefix
	Destinations []netip.Prefix // nil: whatever the converter allows
	Connections  int            // at once
	Pending      int            // of those, not connected to their server yet
	PerSecond    int            // new connections, 0: no limit
	Rate         int            // kbit/s, both directions together; 0: no limit
	Expires      time.Time      // not served from then on; zero: never
}

// file mirrors the TOML file.
type file struct {
	Listen            []string      `toml:"listen"`
	Announce          []string      `toml:"announce"`
	Source            []string      `toml:"source"`
	Metrics           *string       `toml:"metrics"`
	AddressLog        string        `toml:"address_log"`
	LogLevel          journal.Level `toml:"log_level"`
	Drain             *int          `toml:"drain"`
	Rate              int           `toml:"rate"`
	AllowDestinations []string      `toml:"allow_destinations"`
	DenyDestinations  []string      `toml:"deny_destinations"`
	DenyPorts         []uint16      `toml:"deny_ports"`
	OnPath            *onPath       `toml:"on_path"`
	clientsFile
}

// clientsFile is a file of the directory.
type clientsFile struct {
	Clients []client `toml:"client"`
}

type client struct {
	Name         string    `toml:"name"`
	Key          string    `toml:"key"`
	Cookie       string    `toml:"cookie"`
	Networks     []string  `toml:"networks"`
	Destinations []string  `toml:"destinations"`
	Connections  *int      `toml:"connections"`
	Pending      *int      `toml:"pending"`
	PerSecond    int       `toml:"connections_per_second"`
	Rate         int       `toml:"rate"`
	Expires      time.Time `toml:"expires"`
}

// Source is where a configuration comes from.
type Source struct {
	File     string   // empty: DefaultFile if there is one
	Listen   []string // replaces the file's
	Networks []string // each becomes a client
}

// Load reads the file, those of the directory beside it, and adds what the
// command line says. All that is wrong is reported at once, each with the file
// and the key. A file without a client is valid: the first may be added later.
func (s Source) Load() (Config, error) {
	name, err := s.file()
	if err != nil {
		return Config{}, err
	}
	p := parser{c: Config{Metrics: DefaultMetrics, Drain: DefaultDrain, DenyPorts: defaultDenyPorts}, name: s.name()}
	var f file
	if name != "" {
		if !p.decode(name, &f) {
			return Config{}, errors.Join(p.errs...)
		}
	}
	p.parse(f)
	p.warnIfOpen(f.Clients)
	files, err := clientFiles(s.Dir())
	if err != nil {
		return Config{}, err
	}
	for _, name := range files {
		var f clientsFile
		if p.name = name; p.decode(name, &f) {
			p.parseClients(f.Clients)
			p.warnIfOpen(f.Clients)
		}
	}
	p.parseFlags(s.Listen, s.Networks)
	if err := errors.Join(p.errs...); err != nil {
		return Config{}, err
	}
	return p.c, nil
}

// LoadToServe is Load for a converter that is to run: without a file somebody
// has to be named who may use it.
func (s Source) LoadToServe() (Config, error) {
	c, err := s.Load()
	if name, _ := s.file(); err == nil && name == "" && len(c.Clients) == 0 {
		return Config{}, fmt.Errorf("no client may use this converter: `braid-mcp add NAME` makes one; or give -client PREFIX, or a [[client]] in %s", s.name())
	}
	return c, err
}

func (s Source) name() string { return cmp.Or(s.File, DefaultFile) }

// file is the name of the file to read; empty if there is none, and none was
// asked for.
func (s Source) file() (string, error) {
	_, err := os.Stat(s.name())
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.File == "":
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading configuration: %w", err)
	}
	return s.name(), nil
}

// parser collects a configuration and what is wrong with it.
type parser struct {
	c    Config
	name string // of the file at hand
	errs []error
	// owner is whose a name, a key or a cookie is.
	owner map[any]string
}

func (p *parser) bad(key string, err error) {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %s: %w", p.name, key, err))
	}
}

// warnIfOpen warns of a file with secrets that everybody on the host may read.
func (p *parser) warnIfOpen(list []client) {
	secret := slices.ContainsFunc(list, func(c client) bool { return c.Key != "" || c.Cookie != "" })
	if fi, err := os.Stat(p.name); err == nil && secret && fi.Mode()&0o004 != 0 {
		p.c.Warnings = append(p.c.Warnings, fmt.Sprintf("%s: everybody on this host may read the keys in it: chmod o= %[1]s", p.name))
	}
}

// decode reads a TOML file, and says whether it is one.
func (p *parser) decode(name string, into any) bool {
	md, err := toml.DecodeFile(name, into)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		where := fmt.Sprintf("%s:%d: ", name, syntax.Position.Line)
		if syntax.LastKey != "" {
			where += syntax.LastKey + ": "
		}
		p.errs = append(p.errs, fmt.Errorf("%s%s", where, cmp.Or(syntax.Message, err.Error())))
		return false
	case err != nil: // and what comes after it has not been read
		if m := mistyped.FindStringSubmatch(err.Error()); m != nil {
			err = fmt.Errorf("%s:%s: %s: it is %s, and has to be %s", name, m[1], m[2], inWords(m[3]), inWords(m[4]))
		} else {
			err = fmt.Errorf("reading %s: %w", name, err)
		}
		p.errs = append(p.errs, err)
		return false
	}
	for _, key := range md.Undecoded() {
		p.errs = append(p.errs, fmt.Errorf("%s: %s: unknown key", name, key))
	}
	return true
}

// mistyped is how the decoder puts that a value has another type than its key.
var mistyped = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]+)"\): incompatible types: TOML value has type (\w+); destination has type (\w+)$`)

// inWords says what a type of the decoder's is to whom has written the file.
func inWords(kind string) string {
	words := map[string]string{"slice": "a list", "int64": "a number", "integer": "a number", "string": "a text", "bool": "true or false", "float64": "a fraction",
		"map": "a table", "struct": "a table"}
	return cmp.Or(words[kind], "a "+kind)
}

func (p *parser) parse(f file) {
	if len(f.Listen) == 0 {
		f.Listen = []string{DefaultListen}
	}
	c := &p.c
	var err error
	c.Listen, err = each(f.Listen, parseListen)
	p.bad("listen", err)
	c.Announce, err = each(f.Announce, parseUnicast)
	p.bad("announce", err)
	c.Source, err = each(f.Source, parseUnicast)
	p.bad("source", err)
	c.AllowDestinations, err = each(f.AllowDestinations, parsePrefix)
	p.bad("allow_destinations", err)
	c.DenyDestinations, err = each(f.DenyDestinations, parsePrefix)
	p.bad("deny_destinations", err)
	if f.DenyPorts != nil {
		c.DenyPorts = f.DenyPorts
	}
	if f.Metrics != nil {
		c.Metrics = *f.Metrics
	}
	if c.Metrics != "" {
		_, err = netip.ParseAddrPort(c.Metrics)
		p.bad("metrics", err)
	}
	if c.AddressLog = f.AddressLog; c.AddressLog != "" && !filepath.IsAbs(c.AddressLog) {
		p.bad("address_log", fmt.Errorf("%q does not begin with /", c.AddressLog))
	}
	c.LogLevel = f.LogLevel
	if f.Drain != nil {
		c.Drain = time.Duration(*f.Drain) * time.Second
		p.bad("drain", atLeast(0, *f.Drain))
	}
	c.Rate = f.Rate
	p.bad("rate", atLeast(0, f.Rate))
	p.parseOnPath(f.OnPath)
	p.parseClients(f.Clients)
}

func (p *parser) parseFlags(listen, networks []string) {
	p.name = "command line"
	if len(listen) > 0 {
		var err error
		p.c.Listen, err = each(listen, parseListen)
		p.bad("-listen", err)
	}
	for _, n := range networks {
		prefix, err := parsePrefix(n)
		if err != nil {
			p.bad("-client", err)
			continue
		}
		p.c.Clients = append(p.c.Clients, Client{Name: prefix.String(), Networks: []netip.Prefix{prefix},
			Connections: DefaultConnections, Pending: DefaultPending})
	}
}

func each[S, T any](in []S, parse func(S) (T, error)) (out []T, err error) {
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

func parseUnicast(s string) (netip.Addr, error) {
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
