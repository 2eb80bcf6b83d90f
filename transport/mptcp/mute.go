// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// muteTime is for how long a peer is dialled with plain TCP that has
	// answered MPTCP with plain TCP.
	muteTime = 10 * time.Minute
	// mutePeers are remembered at least, and twice as many at most.
	mutePeers = 16384
)

// mutes remembers the peers that do not speak MPTCP, in two generations: when
// the younger is full, the older goes. The zero value is ready.
type mutes struct {
	mu         sync.Mutex
	peers, old map[netip.AddrPort]time.Time // and when they were found so
}

func (m *mutes) has(peer netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	since, ok := m.peers[peer]
	if !ok {
		since, ok = m.old[peer]
	}
	return ok && time.Since(since) < muteTime
}

func (m *mutes) learn(peer netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.peers == nil || len(m.peers) >= mutePeers {
		m.old, m.peers = m.peers, make(map[netip.AddrPort]time.Time)
	}
	m.peers[peer] = time.Now()
}
