// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lend

import (
	"cmp"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// AppendText appends what another table needs to go on with a connection: its
// keys, which are as secret as the connection, and its flows that are established, the
// first one first.
func (c *Connection) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, c.client[:])
	b = hex.AppendEncode(append(b, ' '), c.server[:])
	b = c.First.appendText(b)
	for _, s := range c.flows {
		if s.open {
			b = s.appendText(b)
		}
	}
	return b, nil
}

var _ encoding.TextAppender = (*Connection)(nil)

var errLength = errors.New("it has eight")

// Restore takes what AppendText has written of a connection, of which those flows
// are open that isOpen says so of. Nothing is announced to it unless Again says so. It
// is nil if none is open, or it is known.
func (t *Table) Restore(text string, isOpen func(Flow) bool) (*Connection, error) {
	fields := strings.Fields(text)
	if len(fields) < 3 || len(fields) > 3+maxFlows {
		return nil, fmt.Errorf("reading a connection: %d fields", len(fields))
	}
	c := new(Connection)
	for i, key := range []*Key{&c.client, &c.server} {
		b, err := hex.DecodeString(fields[i])
		if err != nil || len(b) != len(key) {
			return nil, fmt.Errorf("reading a connection: key of %d bytes: %w", len(b), cmp.Or(err, errLength))
		}
		copy(key[:], b)
	}
	for i, field := range fields[2:] {
		f, err := parseFlow(field)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading a connection: %w", err)
		case i == 0:
			c.First = f
		case t.flows[f] == nil && !c.Established(f) && isOpen(f):
			c.flows = append(c.flows, subflow{Flow: f, open: true})
		}
	}
	c.Token = c.server.Token()
	if len(c.flows) == 0 || t.tokens[c.Token] != nil {
		return nil, nil
	}
	t.tokens[c.Token] = c
	for _, s := range c.flows {
		t.flows[s.Flow] = c
	}
	t.enter(c)
	return c, nil
}

func (f Flow) appendText(b []byte) []byte {
	b = f.Client.AppendTo(append(b, ' '))
	return f.Server.AppendTo(append(b, '>'))
}

func parseFlow(s string) (f Flow, err error) {
	client, server, _ := strings.Cut(s, ">")
	if f.Client, err = netip.ParseAddrPort(client); err == nil {
		f.Server, err = netip.ParseAddrPort(server)
	}
	return f, err
}
