// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"net/netip"
	"strings"

	"braid/mcp/config"
	"braid/transport/convert"
	"braid/transport/proof"
)

// clients finds who a request comes from, however many there are. It does not
// change; a new configuration makes new ones.
type clients struct {
	accounts []*account // as the configuration has them
	expiring []*account // those whose time ends
	keys     map[proof.ID]*account
	cookies  map[[sha256.Size]byte]*account
	networks map[netip.Prefix]*account
	lengths  [2][]int // of the prefixes in networks, IPv4 and IPv6, the longest first
}

// newClients makes those of a configuration, of the accounts of old ones where
// they have the same names.
func newClients(list []config.Client, old *clients) *clients {
	cs := &clients{
		keys:     make(map[proof.ID]*account),
		cookies:  make(map[[sha256.Size]byte]*account),
		networks: make(map[netip.Prefix]*account),
	}
	known := make(map[string]*account)
	if old != nil {
		for _, a := range old.accounts {
			known[a.name] = a
		}
	}
	var lengths [2][129]bool
	for _, c := range list {
		a := known[c.Name]
		if a == nil {
			a = &account{name: c.Name}
		}
		a.set(c)
		cs.accounts = append(cs.accounts, a)
		if !c.Expires.IsZero() {
			cs.expiring = append(cs.expiring, a)
		}
		if c.Key != nil {
			cs.keys[a.holder.Key.ID] = a
		}
		if c.Cookie != nil {
			cs.cookies[digest(c.Cookie)] = a
		}
		for _, n := range c.Networks {
			if cs.networks[n] == nil { // of two the first
				cs.networks[n] = a
			}
			lengths[family(n.Addr())][n.Bits()] = true
		}
	}
	for f := range lengths {
		for bits := len(lengths[f]) - 1; bits >= 0; bits-- {
			if lengths[f][bits] {
				cs.lengths[f] = append(cs.lengths[f], bits)
			}
		}
	}
	return cs
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// digest is what cookies are looked up by: how long that takes tells nothing of
// them. Zeros at the end may be padding and do not count.
func digest(cookie []byte) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.TrimRight(string(cookie), "\x00")))
}

// byNetwork is whose network an address is in, the smallest one that there is;
// nil for nobody's.
func (cs *clients) byNetwork(a netip.Addr) *account {
	for _, bits := range cs.lengths[family(a)] {
		if p, err := a.WithZone("").Prefix(bits); err == nil && cs.networks[p] != nil {
			return cs.networks[p]
		}
	}
	return nil
}

// byCookie is who shows a cookie in clear; nil for nobody.
func (cs *clients) byCookie(c convert.Cookie) *account { return cs.cookies[digest(c.Value)] }

// byKey is whose key a cookie claims to prove; nil for nobody's.
func (cs *clients) byKey(c convert.Cookie) *account {
	id, ok := proof.KeyID(c)
	if !ok {
		return nil
	}
	return cs.keys[id]
}
