// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"maps"
	"net/netip"
	"time"

	"braid/transport/mptcp"
)

// lineMemory is how long it is remembered of a line that it has been slow or
// has lost packets. One that is so at times, as cellular ones are, will be so
// again, and many a download is over before that shows.
const lineMemory = 10 * time.Minute

// lines are the lines that connections go over.
type lines struct {
	all    map[ends]*line
	pruned time.Time
}

// ends are the addresses by which a line is known.
type ends struct{ local, remote netip.Addr }

// line is what the connections over one have in common.
type line struct {
	late late
	used time.Time // when a connection over it was last looked at
}

// of is the line of a subflow.
func (l *lines) of(f mptcp.Subflow, now time.Time) *line {
	if l.all == nil {
		l.all = make(map[ends]*line)
	}
	if now.Sub(l.pruned) > lineMemory {
		l.pruned = now
		maps.DeleteFunc(l.all, func(_ ends, known *line) bool { return now.Sub(known.used) > lineMemory })
	}
	e := ends{f.Local.Addr(), f.Remote.Addr()}
	known := l.all[e]
	if known == nil {
		known = new(line)
		l.all[e] = known
	}
	return known
}

// late is the longest round trip, in ns, of a line while it was slow or lossy.
type late struct {
	rtt float64
	at  time.Time
}

func (l *late) add(now time.Time, rtt float64) {
	if rtt >= l.value(now) {
		l.rtt, l.at = rtt, now
	}
}

func (l *late) value(now time.Time) float64 {
	if now.Sub(l.at) > lineMemory {
		return 0
	}
	return l.rtt
}
