// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"braid/mcp/config"
	"braid/transport/convert"
	"braid/transport/proof"
)

// maxLines is how many addresses of a client are remembered.
const maxLines = 16

// account is what the converter knows of a client. It outlives changes of the
// configuration.
type account struct {
	name     string
	up, down atomic.Uint64 // bytes of closed connections, from and to the client
	removed  bool          // from the configuration; under the server's lock

	// Under the share's lock.
	finish float64 // the virtual time at which it has had all it wants
	at     int     // its place among the busy, if it is
	busy   bool

	mu            sync.Mutex
	client        config.Client
	holder        *proof.Holder // nil: no key
	open, pending int
	answers       int // that it is being told, and does not close
	relayed       uint64
	refused       map[string]uint64 // by reason
	connections   bucket
	bytes         bucket
	lines         map[netip.Addr]time.Time // addresses it came from, last seen
	seen          time.Time
}

// set gives an account another configuration.
func (a *account) set(c config.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.client.Key, c.Key) || a.holder == nil {
		a.holder = nil
		if c.Key != nil {
			a.holder = &proof.Holder{Key: proof.NewKey(c.Key)}
		}
	}
	a.client = c
}

func (a *account) config() config.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client
}

// admit counts a connection that is to be made for the client, until release; it
// is pending until connected. The errors are Convert's Not Authorized and Resource
// Exceeded.
func (a *account) admit(from netip.Addr, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sawLocked(from, now)
	c := &a.client
	switch {
	case expired(*c, now):
		return convert.Error{Code: convert.NotAuthorized}
	case a.open >= c.Connections,
		a.pending >= c.Pending,
		c.PerSecond > 0 && !a.connections.take(1, float64(c.PerSecond), now):
		return convert.RetryError(convert.ResourceExceeded, time.Second)
	}
	a.open++
	a.pending++
	return nil
}

// connected says that a connection is not pending any more.
func (a *account) connected() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending--
}

func (a *account) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
}

// maxAnswers is how many connections of a client may be told something, and not be
// closed by it, at a time.
const maxAnswers = 2048

// answer counts a connection that ends with an answer, until answered, unless
// there are too many: who replays what a client has sent gets answers, too.
func (a *account) answer() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answers >= maxAnswers {
		return false
	}
	a.answers++
	return true
}

func (a *account) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers--
}

// full says whether the client has as many connections as it may.
func (a *account) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open >= a.client.Connections
}

// over says whether the client has connections although its time is.
func (a *account) over(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open > 0 && expired(a.client, now)
}

func expired(c config.Client, now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// saw notes that the client has shown up.
func (a *account) saw(from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sawLocked(from, time.Now())
}

func (a *account) sawLocked(from netip.Addr, now time.Time) {
	a.seen = now
	if a.lines == nil {
		a.lines = make(map[netip.Addr]time.Time)
	}
	a.lines[from] = now
	if len(a.lines) <= maxLines {
		return
	}
	oldest := from
	for addr, seen := range a.lines {
		if seen.Before(a.lines[oldest]) {
			oldest = addr
		}
	}
	delete(a.lines, oldest)
}

func (a *account) refuse(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == nil {
		a.refused = make(map[string]uint64)
	}
	a.refused[reason]++
}

func (a *account) carried() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.relayed++
}

// pace is how long to hold back bytes of the client's, for its rate to hold.
func (a *account) pace(n int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client.Rate == 0 {
		return 0
	}
	return a.bytes.spend(float64(n), bytesPerSecond(a.client.Rate), time.Now())
}

// bytesPerSecond is a rate in kbit/s.
func bytesPerSecond(rate int) float64 { return float64(rate) * 1000 / 8 }

// bucket holds back what is more than a rate, over a second.
type bucket struct {
	level float64 // may be negative
	last  time.Time
}

func (b *bucket) fill(rate float64, now time.Time) {
	if b.last.IsZero() {
		b.level = rate
	}
	b.level = min(b.level+rate*max(now.Sub(b.last), 0).Seconds(), rate)
	b.last = now
}

// take takes n if there are as many.
func (b *bucket) take(n, rate float64, now time.Time) bool {
	b.fill(rate, now)
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

// spend takes n in any case, and tells after how long it would have been there.
func (b *bucket) spend(n, rate float64, now time.Time) time.Duration {
	b.fill(rate, now)
	b.level -= n
	return time.Duration(max(-b.level, 0) / rate * float64(time.Second))
}
