// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package extend

import (
	"net/netip"
	"time"
)

const (
	// firstPort is the first of those that stand for servers, numPorts how many
	// there are: as many as servers that are known at once, times WANs.
	firstPort = 45000
	numPorts  = 4096
	// resting is for how long a port that no connection needs any more keeps its
	// meaning: a host may yet open what was announced to it.
	resting = time.Minute
)

// far is what a port stands for: a server by way of a WAN.
type far struct {
	server netip.AddrPort
	wan    uint32 // its mark
}

// ports are given out, the one that has not been needed for the longest time
// first. The zero value is ready.
type ports struct {
	of   map[far]uint16
	what [numPorts]far
	used [numPorts]time.Time // when a connection last needed it
	next int
}

// get is the port that stands for what is asked; fresh says that it did not
// before, and what it stood for then, if anything. There may be none.
func (p *ports) get(now time.Time, f far) (port uint16, before far, fresh, ok bool) {
	if port, ok := p.of[f]; ok {
		p.used[port-firstPort] = now
		return port, far{}, false, true
	}
	best := -1
	for n := range numPorts {
		i := (p.next + n) % numPorts
		if p.what[i] == (far{}) {
			best = i
			break
		}
		if now.Sub(p.used[i]) >= resting && (best < 0 || p.used[i].Before(p.used[best])) {
			best = i
		}
	}
	if best < 0 {
		return 0, far{}, false, false
	}
	p.next = (best + 1) % numPorts
	before = p.what[best]
	delete(p.of, before)
	if p.of == nil {
		p.of = make(map[far]uint16)
	}
	port = uint16(firstPort + best)
	p.of[f], p.what[best], p.used[best] = port, f, now
	return port, before, true, true
}

// set says what a port stands for, of which an earlier agent has said so. It fails
// if it stands for something else, or another one does.
func (p *ports) set(now time.Time, port uint16, f far) bool {
	if had, ok := p.of[f]; ok {
		return had == port
	}
	if !isPort(port) || p.what[port-firstPort] != (far{}) {
		return false
	}
	if p.of == nil {
		p.of = make(map[far]uint16)
	}
	i := port - firstPort
	p.of[f], p.what[i], p.used[i] = port, f, now
	return true
}

// isPort says whether a port is one of those that stand for servers.
func isPort(port uint16) bool { return port >= firstPort && port < firstPort+numPorts }

// meaning is what a port stands for, which is needed still.
func (p *ports) meaning(now time.Time, port uint16) (far, bool) {
	if !isPort(port) || p.what[port-firstPort] == (far{}) {
		return far{}, false
	}
	i := port - firstPort
	p.used[i] = now
	return p.what[i], true
}
