// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"braid/agent/path"
)

// network is what new connections are decided by. Doubts hold from one
// connection to the next, before the agent's loop has come to the same.
type network struct {
	atomic.Pointer[path.Network]

	mu     sync.Mutex // held while it is changed
	doubts []doubted
}

// doubted is a way by which a connection has failed.
type doubted struct {
	converter string
	way       path.Way
	at        time.Time
}

// Network is what new connections are decided by; nil before the first.
func (p *Proxy) Network() *path.Network { return p.network.Load() }

// SetNetwork changes what new connections are decided by. What a converter
// seems to have failed at is forgotten with a way that turns out to fail.
func (p *Proxy) SetNetwork(n *path.Network) {
	before := p.network.Load()
	for _, c := range n.Converters {
		if !c.State.Serves() || !c.Trusted() && trusted(before, c.Name) {
			p.Memory.Forget(c.Name)
		}
	}
	p.network.set(n)
	if before == nil || before.KeepMapped != n.KeepMapped {
		p.table.keepMapped(n.KeepMapped)
	}
}

// trusted says whether a converter was.
func trusted(n *path.Network, converter string) bool {
	if n != nil {
		for i := range n.Converters {
			if n.Converters[i].Name == converter {
				return n.Converters[i].Trusted()
			}
		}
	}
	return false
}

func (n *network) set(now *path.Network) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.doubts[:0]
	for _, d := range n.doubts {
		if knownBefore(now, d) {
			kept = append(kept, d)
			now = now.Doubt(d.converter, d.way)
		}
	}
	n.doubts = kept
	n.Store(now)
}

// knownBefore says whether what is known of a way does not take a doubt in.
func knownBefore(n *path.Network, d doubted) bool {
	a := n.Answer(d.converter, d.way)
	return a.State == path.ConverterUp && a.At.Before(d.at)
}

// doubt tells of a connection that a converter has not made by a way, and has
// the next connections take others until it has been asked.
func (p *Proxy) doubt(converter string, w path.Way, err error) {
	n := &p.network
	n.mu.Lock()
	n.doubts = append(n.doubts, doubted{converter, w, time.Now()})
	if now := n.Load(); now != nil {
		n.Store(now.Doubt(converter, w))
	}
	n.mu.Unlock()
	p.Doubt(converter, w, err)
}
