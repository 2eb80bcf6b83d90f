// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"sort"
	"sync"
	"time"
)

// Limits are how many connections are carried at once, in all and of a host of
// the LAN; 0: as many as come. One whose far side has not answered yet counts
// several times. What is beyond them is to pass the proxy by.
type Limits struct {
	Total, PerHost int
	// Waiting is as how many one counts whose far side is still looked for.
	Waiting int
}

const (
	// connectionMemory is what a connection takes, buffers of those that carry
	// much included; leastWaiting is how many times as much one does, in memory and
	// files, whose far side is still looked for. So many of a host are enough, and
	// what a converter lets wait is for all hosts.
	connectionMemory = 24 << 10
	leastWaiting     = 4
	mostWaiting      = 256

	ramShare      = 6 // the part of the machine's memory that connections may take
	filesEach     = 3
	minTotal      = 512
	maxTotal      = 8192
	programMemory = 16 << 20

	slackShare  = 4                // of a limit is taken above it, until the packet filter knows
	relaxed     = 4                // of a limit has to be free before taking begins again
	crowdMemory = 10 * time.Second // for how long at least who had too many passes
	maxCrowd    = 32               // hosts; if more of them have too many, it is the whole LAN
)

// LimitsFor are the limits of a machine with so many bytes of memory, for a
// program that may have so many files open, and what it may take of the memory
// before its garbage is collected more often.
func LimitsFor(ram, files uint64) (l Limits, memory int64) {
	l.Total = int(min(max(ram/ramShare/connectionMemory, minTotal), files/filesEach, maxTotal))
	l.PerHost = l.Total / 2
	l.Waiting = max(leastWaiting, l.PerHost/mostWaiting)
	return l, int64(l.Total)*connectionMemory + programMemory
}

// crowd counts the connections of the LAN's hosts.
type crowd struct {
	limits   Limits
	changedC chan struct{} // nil: nobody wants to know

	mu    sync.Mutex
	load  int // of all
	hosts map[netip.Addr]int
	over  map[netip.Addr]time.Time // when one last had too many
	full  time.Time                // when all together had
}

// enter counts one more of a host's, which waits for its far side, unless there
// are far too many.
func (c *crowd) enter(host netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, n := c.limits, c.hosts[host]
	if beyond(c.load, l.Total) || beyond(n, l.PerHost) {
		return false
	}
	if c.hosts == nil {
		c.hosts, c.over = make(map[netip.Addr]int), make(map[netip.Addr]time.Time)
	}
	w := c.waiting()
	c.addLocked(host, w)
	reaches := func(n, limit int) bool { return n < limit && n+w >= limit }
	if reaches(n, l.PerHost) || reaches(c.load-w, l.Total) {
		select {
		case c.changedC <- struct{}{}:
		default:
		}
	}
	return true
}

// beyond says whether n leave no room for another one, with the slack.
func beyond(n, limit int) bool { return limit > 0 && n >= limit+limit/slackShare }

// waiting is as how many one counts whose far side is still looked for.
func (c *crowd) waiting() int { return max(1, c.limits.Waiting) }

// add counts what a host's connection weighs more, or less. One that is carried
// weighs 1.
func (c *crowd) add(host netip.Addr, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(host, weight)
}

func (c *crowd) addLocked(host netip.Addr, weight int) {
	c.load += weight
	if c.hosts[host] += weight; c.hosts[host] == 0 {
		delete(c.hosts, host)
	}
}

// look tells whose new connections are to pass: everybody's, or those of hosts.
func (c *crowd) look(now time.Time) (all bool, hosts []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limits == (Limits{}) {
		return false, nil
	}
	many := func(n, limit int, since time.Time) bool {
		return n >= limit || now.Sub(since) < crowdMemory || !since.IsZero() && n > limit-limit/relaxed
	}
	for host, n := range c.hosts {
		if n >= c.limits.PerHost {
			c.over[host] = now
		}
	}
	for host, since := range c.over {
		if many(c.hosts[host], c.limits.PerHost, since) {
			hosts = append(hosts, host)
		} else {
			delete(c.over, host)
		}
	}
	if c.load >= c.limits.Total || len(hosts) > maxCrowd {
		c.full = now
	}
	if many(c.load, c.limits.Total, c.full) {
		return true, nil
	}
	c.full = time.Time{}
	sort.Slice(hosts, func(i, j int) bool { return hosts[i].Less(hosts[j]) })
	return false, hosts
}

// Crowd tells whose new connections are to pass the proxy by, because too many
// are open: everybody's, or those of hosts.
func (p *Proxy) Crowd(now time.Time) (all bool, hosts []netip.Addr) { return p.crowd.look(now) }

// Crowded receives when there are too many connections.
func (p *Proxy) Crowded() <-chan struct{} { return p.crowd.changedC }

// SetLimits bounds how many connections are carried. It is to be called before
// Run.
func (p *Proxy) SetLimits(l Limits) {
	p.crowd.limits, p.crowd.changedC = l, make(chan struct{}, 1)
}
