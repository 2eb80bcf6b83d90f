// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"net/netip"
	"sync"
	"time"
)

// A path that drops or ignores the data of two SYNs in a row is not tried
// again for a while: each costs a connection that has to be dialled anew.
const (
	synDataTries = 2
	synDataRest  = 10 * time.Minute
	synDataPaths = 256 // remembered at most; more are forgotten all at once
)

// synMemory remembers which pairs of addresses let SYN data through. The
// zero value is ready.
type synMemory struct {
	mu    sync.Mutex
	paths map[[2]netip.Addr]synPath
}

type synPath struct {
	lost int // in a row
	last time.Time
}

func (m *synMemory) allows(source, peer netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.paths[[2]netip.Addr{source, peer}]
	return p.lost < synDataTries || time.Since(p.last) > synDataRest
}

func (m *synMemory) learn(source, peer netip.Addr, taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]netip.Addr{source, peer}
	if taken {
		delete(m.paths, key)
		return
	}
	if m.paths == nil || len(m.paths) >= synDataPaths {
		m.paths = make(map[[2]netip.Addr]synPath)
	}
	m.paths[key] = synPath{m.paths[key].lost + 1, time.Now()}
}
