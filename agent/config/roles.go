// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"slices"
)

// Kinds returns the kind of each WAN: what its section says, else what guess
// says of it, else fixed.
func (c Config) Kinds(guess map[string]Kind) map[string]Kind {
	kinds := make(map[string]Kind, len(c.WANs))
	for _, w := range c.WANs {
		kinds[w.Name] = cmp.Or(w.Kind, guess[w.Name], KindFixed)
	}
	return kinds
}

// Roles returns the role of each WAN: what its section says, else one chosen
// from kind and quota. Guess holds the kinds of WANs whose section names
// none, as seen from device or protocol.
//
// Without a primary in the file the first fixed WAN whose role is left open
// becomes it; the other fixed ones bond, cellular ones overflow, or are
// backup if they have a quota. If that leaves no primary, the first bond is
// made one, else the first overflow; off and backup never are.
func (c Config) Roles(guess map[string]Kind) map[string]Role {
	var (
		roles   = make(map[string]Role, len(c.WANs))
		kinds   = c.Kinds(guess)
		primary = slices.ContainsFunc(c.WANs, func(w WAN) bool { return w.Role == RolePrimary })
	)
	for _, w := range c.WANs {
		switch {
		case w.Role != "":
			roles[w.Name] = w.Role
		case kinds[w.Name] == KindFixed && !primary:
			roles[w.Name] = RolePrimary
			primary = true
		case kinds[w.Name] == KindFixed:
			roles[w.Name] = RoleBond
		case w.Quota > 0:
			roles[w.Name] = RoleBackup
		default:
			roles[w.Name] = RoleOverflow
		}
	}
	if primary {
		return roles
	}
	for _, stand := range []Role{RoleBond, RoleOverflow} {
		for _, w := range c.WANs {
			if roles[w.Name] == stand {
				roles[w.Name] = RolePrimary
				return roles
			}
		}
	}
	return roles
}
