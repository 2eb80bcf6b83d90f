// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"time"
)

// A peer's silence is no sign against a line: its network may be gone, with
// whatever it sent us. It becomes one when another line hears that peer all
// the same; or, where no other line asks it, when a second peer has fallen
// silent on this line too.

// calls is how often other lines are asked about the peer of one silence: an
// idle one by the byte pays for it.
const calls = 3

// inVainLocked says since when a peer has been asked in vain, and whether that
// is late. It is zero for one that was not since a time, or was never heard over
// this path though others were.
func (m *Monitor) inVainLocked(p *prober, peer netip.Addr, from, now time.Time) (since time.Time, late bool) {
	t := m.trackers[p.target.Leg]
	since = p.vain[peer]
	if since.Before(from.Add(-t.timeout())) { // what was under way is lost with the rest
		return time.Time{}, false
	}
	if _, known := t.peers[peer]; !known && len(t.peers) > 0 {
		return time.Time{}, false
	}
	return since, now.Sub(since) >= t.soon()
}

// silentLocked counts the peers that a path has asked in vain since a time.
func (m *Monitor) silentLocked(p *prober, from, now time.Time) (n int) {
	for _, peer := range p.target.Ways.peers() {
		if _, ok := m.inVainLocked(p, peer, from, now); ok {
			n++
		}
	}
	return n
}

// condemnedLocked says whether the silence of the peers that a path has asked
// since a time is its own, and when the peer was there for others.
func (m *Monitor) condemnedLocked(p *prober, from, now time.Time) (at time.Time, condemned bool) {
	t := m.trackers[p.target.Leg]
	heardElsewhere := false
	for _, peer := range p.target.Ways.peers() {
		since, ok := m.inVainLocked(p, peer, from, now)
		if !ok {
			continue
		}
		for leg, other := range m.probers {
			o := m.trackers[leg]
			heard, known := o.peers[peer]
			if other == p || !known || o.down || !other.target.Ways.ask(peer) {
				continue
			}
			heardElsewhere = true
			// When ours should have been there as well.
			if !heard.Before(since.Add(max(0, t.srtt-o.srtt))) {
				return heard, true
			}
		}
	}
	return from, m.silentLocked(p, from, now) > 1 && !heardElsewhere && m.spareLocked(p.target.WAN, now)
}

// callLocked has other paths ask the peers that a path asks in vain. Idle ones
// that may cost by the byte are asked only when the answer is late.
func (m *Monitor) callLocked(p *prober, from, now time.Time) {
	if p.called >= calls || p.called > 0 && now.Sub(p.calledAt) < urgentInterval {
		return
	}
	for _, peer := range p.target.Ways.peers() {
		since, late := m.inVainLocked(p, peer, from, now)
		if since.IsZero() {
			continue
		}
		for leg, other := range m.probers {
			o := m.trackers[leg]
			if other == p || o.down || !other.target.Ways.ask(peer) || !late && other.target.Patient && !other.busy {
				continue
			}
			other.kick(peer)
			if late {
				p.calledAt = now
			}
		}
	}
	if p.calledAt == now {
		p.called++
	}
}

// strangersLocked says whether all other paths were never answered by anybody,
// so that none could tell what a silence means, and this one was.
func (m *Monitor) strangersLocked(p *prober) bool {
	others := false
	for leg, other := range m.probers {
		if other == p {
			continue
		}
		if m.trackers[leg].samples > 0 {
			return false
		}
		others = true
	}
	return others && m.trackers[p.target.Leg].samples > 0
}
