// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

// Own tells what of the routing is the reader's own work, which is no part of
// a Snapshot, and whose changes are no news. The zero value: nothing is.
type Own struct {
	FirstTable, LastTable int // routes of these tables, rules that look them up
	// Rule is a rule besides, which is known by its looks.
	Rule Rule
}

func (o Own) table(t int) bool { return t != 0 && t >= o.FirstTable && t <= o.LastTable }

func (o Own) rule(r Rule) bool {
	r.IPv6 = o.Rule.IPv6 // there is one in each family
	return o.table(r.Table) || r == o.Rule && o.Rule != Rule{}
}
