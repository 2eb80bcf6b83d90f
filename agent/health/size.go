// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// Many a path drops packets that are as large as its device's, and says nothing:
// probes pass and connections hang. So it is asked by large ones too, as RFC 8899
// has it, at the start and when something large may have got stuck.

const (
	// largest is what is asked for at most: more the Internet does not carry.
	largest = 1500
	// least4 and least6 are what every path is believed to carry (RFC 8200
	// section 5; for IPv4, what is left by any tunnel that is in use).
	least4, least6 = 1200, 1280
	// coarse and fine are the steps in which the largest size is searched.
	coarse, fine = 20, 4
	// small is what goes along with large ones, to know whether anything passes.
	small = 100
	// unsure is the size that is not known because too much was lost.
	unsure = -1
	// sizeWait and maxSizeWait bound how long is waited for answers.
	sizeWait    = 250 * time.Millisecond
	maxSizeWait = time.Second
	// sizeAgain is how long a size is believed on a path that carries much, and
	// sizeDoubt the least time between two doubts, doubled with each that comes to
	// nothing, up to maxSizeDoubt: a doubt costs 3 kB.
	sizeAgain    = 10 * time.Minute
	sizeDoubt    = 2 * time.Second
	maxSizeDoubt = time.Hour
)

// sized is a conn whose probes have a size.
type sized interface {
	conn
	SendSize(to netip.Addr, seq uint16, size int) error
}

// sizing is one search.
type sizing struct {
	conn sized
	peer netip.Addr
	wait time.Duration

	answerC chan uint16
	first   uint16 // of the present round
	seq     uint16
}

// findSize finds the largest packet that passes in both directions over a
// device, up to full; 0: large ones are not answered. It counts what has come.
func (m *Monitor) findSize(ctx context.Context, device string, source, peer netip.Addr, full int, wait time.Duration, answers *atomic.Uint32) int {
	c, err := m.openSized(ctx, device, source, uint16(rand.Uint32()))
	if err != nil {
		return 0
	}
	s := sizing{conn: c, peer: peer, wait: wait, answerC: make(chan uint16, 2*largest/coarse)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			seq, from, err := c.Receive()
			if err != nil {
				return
			}
			if answers.Add(1); from == peer {
				select {
				case s.answerC <- seq:
				default:
				}
			}
		}
	}()
	defer func() { c.Close(); <-ended }()
	return s.search(ctx, full, least(peer))
}

func least(peer netip.Addr) int {
	if peer.Is6() {
		return least6
	}
	return least4
}

// search asks for everything at once rather than in turn. The full size goes
// along each time: that it did not pass once was a loss.
func (s *sizing) search(ctx context.Context, full, least int) (size int) {
	if s.ask(ctx, full) == full {
		return full
	}
	sizes := []int{full, small}
	for n := least; n < full; n += coarse {
		sizes = append(sizes, n)
	}
	switch size = s.ask(ctx, append(sizes, full)...); size {
	case full:
		return full
	case small: // large echoes are not answered here
		return 0
	case 0: // nor is anything now
		return unsure
	}
	sizes = []int{full}
	for n := size + fine; n < min(size+coarse, full); n += fine {
		sizes = append(sizes, n)
	}
	if size = max(size, s.ask(ctx, append(sizes, full)...)); size == full {
		return size
	}
	switch s.ask(ctx, size, full, size) {
	case full:
		return full
	case size:
		return size
	}
	return unsure
}

// ask sends probes of sizes and says which is the largest that is answered; 0:
// none. The first is the largest.
func (s *sizing) ask(ctx context.Context, sizes ...int) (found int) {
	if ctx.Err() != nil {
		return 0
	}
	s.first = s.seq + 1
	for _, size := range sizes {
		s.seq++
		_ = s.conn.SendSize(s.peer, s.seq, size) // which is a loss
	}
	timeout := time.NewTimer(s.wait)
	defer timeout.Stop()
	for found < sizes[0] {
		select {
		case seq := <-s.answerC:
			if i := int(seq - s.first); i < len(sizes) {
				found = max(found, sizes[i])
			}
		case <-timeout.C:
			return found
		case <-ctx.Done():
			return 0
		}
	}
	return found
}

// resize has the size of a path's packets found, if it is time to.
func (p *prober) resize(now time.Time) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	t := p.m.trackers[p.target.Leg]
	full := min(p.target.MTU, largest)
	w := p.ways.preferred()
	switch _, heard := t.peers[w.to.Addr()]; {
	case p.sizing || full <= least(w.to.Addr()) || w.tcp() || !heard || w.misses > 0 || t.down || t.lost > 0 || t.samples < minSamples:
		return
	case p.sizedAt.IsZero():
	case p.stuck && now.Sub(p.sizedAt) >= min(sizeDoubt<<p.doubts, maxSizeDoubt):
	case p.busy && now.Sub(p.sizedAt) >= sizeAgain:
	default:
		return
	}
	doubt := p.stuck && !p.sizedAt.IsZero()
	p.sizing, p.sizedAt, p.stuck = true, now, false
	source, wait := p.sources()[p.source], min(max(sizeWait, 2*t.timeout()), maxSizeWait)
	p.receiving.Go(func() {
		size := p.m.findSize(p.ctx, p.target.Device, source, w.to.Addr(), full, wait, &p.answers)
		if size == full {
			size = 0
		}
		if p.ctx.Err() != nil {
			return
		}
		p.m.note(p.target.Leg, func(t *tracker) {
			p.sizing = false
			if size == unsure {
				p.stuck = true
				return
			}
			switch {
			case size != t.mtu:
				p.doubts = 0
			case doubt:
				p.doubts = min(p.doubts+1, 12)
			}
			t.mtu = size
		})
	})
}
