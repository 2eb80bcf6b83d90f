// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"time"

	"braid/agent/netstate"
)

const (
	fastTick = 20 * time.Millisecond // while any device is busy
	slowTick = 200 * time.Millisecond
	restTick = 400 * time.Millisecond // where nothing has been sent for restAfter
	// restAfter is above what TCP waits before it sends something again.
	restAfter = 2 * time.Second
	// uneven is how much earlier or later than the one before a tick may come.
	uneven = fastTick / 4
	// busyPackets in a slow tick make a device busy, busyTicks of the last
	// fast ones with packets keep it so.
	busyPackets = 8
	busyTicks   = 4
	recentTicks = 10
	// forgotten is when a silence, of whatever cause, is no news any more.
	forgotten = 3 * time.Second
	// noAnswer is for how long something may have been sent and nothing come back
	// before a probe asks why. It may need no answer: then it is asked again after
	// oneWay at the earliest.
	noAnswer = 250 * time.Millisecond
	oneWay   = 10 * time.Second
	// queued is what has to be sent within lostForPatient to fill a queue that
	// delays answers for longer than a line may be silent.
	queued = 16 << 10
	// hesitation is the least time after which a probe that asks for the reason
	// of a silence is a reason for doubt.
	hesitation = 50 * time.Millisecond
)

// deviceWatch is what a device has received of late.
type deviceWatch struct {
	packets uint64
	changed time.Time // when packets last rose
	sent    uint64    // bytes
	sentAt  uint64    // sent, when retransmissions were last looked at
	uploads bool      // many of them, of late
	sentBy  uint64    // sent, when that was last looked at
	looked  time.Time // when that was
	waiting time.Time // when something was first sent after that; zero: nothing was
	answers uint32    // to our probes, which are not yet seen among packets
	recent  uint16    // a bit for each of the last ticks, set if it did
	wasBusy bool      // when it last did
	probers []*prober // that use it
}

// silence is what Look remembers.
type silence struct {
	devices  map[string]*deviceWatch
	again    retransmissions
	interval time.Duration // before this look; 0: it is the first
	sent     time.Time     // when something last was, over any of them
}

// Look looks at what the targets' devices have received, and says when it wants to
// look again, from now. Nothing is faster to tell of a dead path than a stream that
// ends, and it costs no traffic: only when a busy device falls silent is a probe
// sent, to tell a dead path from one that has nothing to carry. It is for one
// goroutine.
func (m *Monitor) Look(now time.Time, counters map[string]netstate.Traffic) (next time.Duration) {
	s := &m.silence
	if s.interval == 0 {
		*s = silence{make(map[string]*deviceWatch), retransmissions{now, m.again()}, slowTick, now}
	}
	since, sentAgain := s.again.look(now, m.again)
	for _, d := range s.devices {
		d.probers = d.probers[:0]
	}
	m.mu.Lock()
	for _, p := range m.probers {
		name := p.target.Device
		if s.devices[name] == nil {
			s.devices[name] = &deviceWatch{packets: counters[name].RXPackets, changed: now, sent: counters[name].TX, sentAt: counters[name].TX,
				sentBy: counters[name].TX, looked: now}
		}
		s.devices[name].probers = append(s.devices[name].probers, p)
	}
	m.mu.Unlock()
	busy := false
	for name, d := range s.devices {
		if len(d.probers) == 0 {
			delete(s.devices, name)
			continue
		}
		if !since.IsZero() {
			sent := counters[name].TX != d.sentAt
			d.sentAt = counters[name].TX
			if sent && sentAgain {
				m.wonder(d, since, now)
			}
		}
		if counters[name].TX != d.sent || !d.waiting.IsZero() {
			s.sent = now
		}
		d.count(counters[name], now, s.interval)
		busy = busy || d.busy(now)
		for _, p := range d.probers {
			busy = m.judge(p, d, now) || busy
		}
	}
	switch {
	case busy:
		s.interval = fastTick
	case now.Sub(s.sent) >= restAfter:
		s.interval = restTick
	default:
		s.interval = slowTick
	}
	return s.interval
}

// count takes in new counter values. What answers our own probes does not make a device
// busy: each silence asks, and would be followed by the next one, for good.
func (d *deviceWatch) count(t netstate.Traffic, now time.Time, interval time.Duration) {
	packets := t.RXPackets
	switch {
	case packets != d.packets:
		d.waiting = time.Time{}
	case t.TX != d.sent && d.waiting.IsZero():
		d.waiting = now
	}
	d.sent = t.TX
	if t.TX < d.sentBy { // another device of that name
		d.sentBy = 0
	}
	if now.Sub(d.looked) >= lostForPatient {
		d.uploads = t.TX-d.sentBy >= queued
		d.sentBy, d.looked = t.TX, now
	}
	d.uploads = d.uploads || t.TX-d.sentBy >= queued
	rose := packets - d.packets
	if packets < d.packets { // another device of that name
		rose = packets
	}
	d.packets = packets
	d.recent <<= 1
	if rose == 0 {
		return
	}
	d.changed = now
	for _, p := range d.probers {
		d.answers += p.answers.Swap(0)
	}
	own := min(rose, uint64(d.answers))
	d.answers -= uint32(own)
	if rose -= own; rose > 0 {
		d.recent |= 1
	}
	if interval != fastTick {
		if interval == restTick {
			rose /= uint64(restTick / slowTick)
		}
		d.wasBusy = rose >= busyPackets
		d.recent = 0
		if d.wasBusy {
			d.recent = 1<<recentTicks - 1
		}
		return
	}
	n := 0
	for i := range recentTicks {
		n += int(d.recent >> i & 1)
	}
	d.wasBusy = n >= busyTicks
}

// busy says whether the device carries traffic, or did until just now.
func (d *deviceWatch) busy(now time.Time) bool {
	return d.wasBusy && now.Sub(d.changed) < forgotten
}

// judge raises, clears or confirms the suspicion that a path is dead, and says
// whether there is one.
func (m *Monitor) judge(p *prober, d *deviceWatch, now time.Time) (suspicious bool) {
	silence := now.Sub(d.changed)
	m.note(p.target.Leg, func(t *tracker) {
		p.busy, p.received = d.busy(now), d.changed
		mute := !d.waiting.IsZero() && now.Sub(d.waiting) >= max(noAnswer, t.timeout()) && (p.suspect || now.Sub(p.wondered) >= oneWay)
		suspicious = p.busy && silence >= suspicion-uneven || mute
		if mute {
			p.wondered = now
		}
		if !p.busy {
			silence = now.Sub(p.asked) // before, there was nothing to receive
		}
		t.doubt(now, suspicious && p.suspect && !p.asked.IsZero() && now.Sub(p.asked) >= max(hesitation, t.timeout()))
		switch {
		case suspicious && !p.suspect:
			p.suspect, p.asked, p.called, p.heardAt = true, time.Time{}, 0, time.Time{}
			p.stuck = p.stuck || p.busy // what came in was large, perhaps
			p.kick(netip.Addr{})
		case suspicious:
			// Where no probe has left yet, silence proves nothing; nor where what
			// is sent may be queued.
			if p.asked.IsZero() || !p.busy && d.uploads || !m.spareLocked(p.target.WAN, now) {
				return
			}
			at, condemned := m.condemnedLocked(p, now.Add(-silence), now)
			switch {
			case !condemned && t.answers():
				m.callLocked(p, now.Add(-silence), now)
			case condemned && p.heardAt.IsZero():
				p.heardAt = at
			}
			// Where the peer is just back, what was asked since has the time that it
			// takes.
			if condemned && now.Sub(p.heardAt) >= suspectInterval+t.soon() {
				t.silent(now, silence, now.Sub(p.asked))
			}
		case p.suspect:
			p.suspect = false
			p.calm(t, now)
		}
	})
	return suspicious
}

// calm learns from a silence that has ended. One that ended with the answer to
// our probe, in the usual time, was only a pause in the traffic.
func (p *prober) calm(t *tracker, now time.Time) {
	if waited := now.Sub(p.asked); !p.asked.IsZero() && waited > t.timeout()+fastTick {
		t.endured(now, waited+suspicion)
	}
}

// retransmissions is how many there were.
type retransmissions struct {
	at time.Time
	n  uint64
}

// look says whether there were any since the last look, and when that was; zero:
// it was not looked. It is each slowTick, for it costs more than the devices'
// counters.
func (r *retransmissions) look(now time.Time, count func() uint64) (since time.Time, some bool) {
	if now.Sub(r.at) < slowTick-fastTick/2 { // a tick may be late, and the next one early
		return time.Time{}, false
	}
	before := *r
	r.at, r.n = now, count()
	return before.at, r.n > before.n
}

// wonder has the paths of a device probed, on which something was sent since a
// time, in which something was sent again. Busy ones are asked often enough, and
// what was sent may have been a probe of ours.
func (m *Monitor) wonder(d *deviceWatch, since, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range d.probers {
		if p.busy || !p.lastSent.Before(since) || now.Sub(p.wondered) < oneWay {
			continue
		}
		p.wondered, p.stuck = now, true
		p.kick(netip.Addr{})
	}
}
