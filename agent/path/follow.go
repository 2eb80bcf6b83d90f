// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package path

import (
	"slices"
	"sort"

	"braid/agent/config"
)

// Follow has a flow leave by the source of a connection that its host has open
// to the same address, as long as the network has it: servers of FTP, and
// others that know a client by its address, refuse a connection that seems to
// be a stranger's. A rule's word, and a verdict on a converter, hold all the same.
func (n *Network) Follow(d *Decision, f Flow, open Attempt) {
	if f.Path != config.PathAuto || d.n == 0 {
		return
	}
	first := open
	first.Peer, first.MPTCP = f.Dest, false
	like := first.sameSource
	switch attempts := d.Attempts(); {
	case slices.ContainsFunc(attempts, like):
		sort.SliceStable(attempts, func(i, j int) bool { return like(attempts[i]) && !like(attempts[j]) })
	case open.Path == config.PathDirect && n.source(open.WAN, f.Dest.Addr().Is6()) == open.Source:
		d.n = min(d.n+1, MaxAttempts)
		copy(d.attempts[1:d.n], d.attempts[:])
		d.attempts[0] = first
	}
	d.Path = d.attempts[0].Path
}

// sameSource says whether a server sees two attempts come from one address.
func (a Attempt) sameSource(b Attempt) bool {
	switch {
	case a.Path != b.Path:
		return false
	case a.Path == config.PathConvert:
		return a.Converter.Name == b.Converter.Name
	}
	return a.Source == b.Source
}
