// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"braid/transport/proof"
)

// suffix is that of the configuration and of the files in its directory.
const suffix = ".toml"

// Dir is the directory of clients' files, beside the file: /etc/braid-mcp.d for
// /etc/braid-mcp.toml.
func (s Source) Dir() string { return strings.TrimSuffix(s.name(), suffix) + ".d" }

// clientFiles are the files of a directory, which need not be there.
func clientFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading clients: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// parseClients adds a file's clients.
func (p *parser) parseClients(list []client) {
	for i, fc := range list {
		key := "client[" + strconv.Itoa(i) + "]"
		c := Client{
			Name:        fc.Name,
			Connections: DefaultConnections,
			Pending:     DefaultPending,
			PerSecond:   fc.PerSecond,
			Rate:        fc.Rate,
			Expires:     fc.Expires,
		}
		if c.Name == "" {
			c.Name = "client " + strconv.Itoa(len(p.c.Clients)+1)
		}
		var err error
		c.Networks, err = each(fc.Networks, parsePrefix)
		p.bad(key+".networks", err)
		c.Destinations, err = each(fc.Destinations, parsePrefix)
		p.bad(key+".destinations", err)
		c.Cookie, err = parseSecret(fc.Cookie, minCookie, maxCookie)
		p.bad(key+".cookie", err)
		c.Key, err = parseSecret(fc.Key, proof.MinSecret, proof.MaxSecret)
		p.bad(key+".key", err)
		if fc.Key == "" && fc.Cookie == "" && len(fc.Networks) == 0 {
			p.bad(key, errors.New("needs a key, a cookie or networks"))
		}
		if fc.Connections != nil {
			c.Connections = *fc.Connections
		}
		p.bad(key+".connections", atLeast(1, c.Connections))
		if fc.Pending != nil {
			c.Pending = *fc.Pending
		}
		p.bad(key+".pending", atLeast(1, c.Pending))
		p.bad(key+".connections_per_second", atLeast(0, c.PerSecond))
		p.bad(key+".rate", atLeast(0, c.Rate))
		p.unlike(key, c)
		p.c.Clients = append(p.c.Clients, c)
	}
}

// unlike finds fault with a client that cannot be told from another.
func (p *parser) unlike(key string, c Client) {
	if p.owner == nil {
		p.owner = make(map[any]string)
	}
	type name string
	type cookie string
	own := func(field string, id any) {
		if other, taken := p.owner[id]; taken {
			p.bad(key+field, fmt.Errorf("is that of %q too", other))
		}
		p.owner[id] = c.Name
	}
	own(".name", name(c.Name))
	if c.Key != nil {
		own(".key", proof.NewKey(c.Key).ID)
	}
	if c.Cookie != nil {
		own(".cookie", cookie(strings.TrimRight(string(c.Cookie), "\x00"))) // zeros at the end do not count
	}
}

// parseSecret takes hex digits. What it says of wrong ones does not show them,
// for it ends up in logs.
func parseSecret(text string, least, most int) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(text)
	switch {
	case err != nil:
		return nil, errors.New("is not an even number of hex digits")
	case len(strings.TrimRight(string(b), "\x00")) < least || len(b) > most:
		return nil, fmt.Errorf("has %d bytes, not %d to %d without zeros at the end", len(b), least, most)
	}
	return b, nil
}

func atLeast(least, n int) error {
	if n < least {
		return fmt.Errorf("%d, at least %d", n, least)
	}
	return nil
}
