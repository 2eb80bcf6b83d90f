// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"net/netip"
	"time"

	"braid/transport/mptcp"
)

const (
	// progress is how recently another subflow must have been acknowledged:
	// when all are silent, it is not the path.
	progress = 200 * time.Millisecond
	// gapFactor times the longest gap that a subflow has survived is what it
	// is allowed.
	gapFactor = 2
	maxGap    = time.Second // a longer one was an outage
	// doubtful is a pause after which a subflow is looked at closely.
	doubtful = 150 * time.Millisecond
)

// pair identifies a subflow.
type pair struct{ local, remote netip.AddrPort }

// subflow is the history of one.
type subflow struct {
	_        [0]func() // nobody compares it
	acked    uint64
	since    time.Time // something has been unacknowledged and nothing acknowledged
	progress time.Time // last acknowledgement; zero: none yet
	gap      time.Duration
	seen     time.Time
	givenUp  bool
	rate     maximum // bytes a second delivered
	rtt      minimum
}

// dead finds the subflows that are to be given up, each once. The connection
// stays under watch while one is in doubt.
func (w *Ward) dead(flows []mptcp.Subflow, now time.Time) (dead []mptcp.Subflow) {
	if w.flows == nil {
		w.flows = make(map[pair]*subflow)
	}
	var last time.Time // progress on any
	for _, f := range flows {
		s := w.flows[pair{f.Local, f.Remote}]
		if s == nil {
			s = &subflow{acked: f.BytesAcked, since: now}
			w.changed = now
			w.flows[pair{f.Local, f.Remote}] = s
		}
		s.seen = now
		switch {
		case f.BytesAcked != s.acked:
			if gap := now.Sub(s.since); gap <= maxGap {
				s.gap = max(s.gap, gap)
			}
			s.acked, s.since, s.progress = f.BytesAcked, now, now
		case f.Unacked == 0:
			s.since = now
		}
		if s.progress.After(last) {
			last = s.progress
		}
	}
	for p, s := range w.flows {
		if s.seen != now {
			delete(w.flows, p)
		}
	}
	for _, f := range flows {
		s := w.flows[pair{f.Local, f.Remote}]
		stalled := now.Sub(s.since)
		if stalled >= doubtful {
			w.changed = now
		}
		if s.givenUp || stalled < unacknowledged/2 || now.Sub(last) >= progress || !last.After(s.progress) {
			continue
		}
		if w.until.Before(now.Add(calm)) {
			w.until = now.Add(calm)
		}
		if stalled > max(unacknowledged, f.RTT+4*f.RTTVar, gapFactor*s.gap) {
			s.givenUp = true
			dead = append(dead, f)
		}
	}
	return dead
}
