// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"braid/agent/socket/connect"
	"braid/agent/socket/icmp"
)

// Ways are how it can be asked whether a path works, the preferred one first:
// by a TCP connect where there is a port, by ICMP echo where that is 0. Those
// that are invalid come last and are none.
type Ways [4]netip.AddrPort

// any says whether there are any.
func (w *Ways) any() bool { return w[0].IsValid() }

// ask says whether a peer is one of those that are asked.
func (w *Ways) ask(peer netip.Addr) bool {
	for _, to := range w {
		if to.IsValid() && to.Addr() == peer {
			return true
		}
	}
	return false
}

// peers are those that are asked, in whatever ways, each once.
func (w *Ways) peers() (all []netip.Addr) {
	for _, to := range w {
		if to.IsValid() && !slices.Contains(all, to.Addr()) {
			all = append(all, to.Addr())
		}
	}
	return all
}

// String returns the addresses, those without a port alone, with commas.
func (w Ways) String() string {
	var all []string
	for _, to := range w {
		switch {
		case to.IsValid() && to.Port() == 0:
			all = append(all, to.Addr().String())
		case to.IsValid():
			all = append(all, to.String())
		}
	}
	return strings.Join(all, ",")
}

// conn is what probes are sent by, in one of the ways: an icmp.Conn or a
// connect.Conn.
type conn interface {
	Send(to netip.AddrPort, seq uint16) error
	Receive() (seq uint16, from netip.Addr, err error)
	Close() error
}

// open opens a conn over a device.
func open(ctx context.Context, device string, source netip.Addr, tcp bool, id uint16) (conn, error) {
	if tcp {
		return connect.New(device, source), nil
	}
	return icmp.Open(ctx, device, source, id)
}

// way is one way to ask, and what has become of that.
type way struct {
	to      netip.AddrPort
	asked   time.Time // first since the last answer, in this turn; zero: not
	misses  int       // in a row
	blamed  int       // how many of them the path was blamed for
	met     bool      // it was asked for no other reason than to know whether it answers
	since   time.Time // when the first of them was sent
	problem string    // the last error logged, so that a lasting one is told once
}

func (w *way) tcp() bool { return w.to.Port() != 0 }

// mute says whether the way is not worth asking while there is another. One
// loss does not make it that.
func (w *way) mute() bool { return w.misses >= 2 }

// ways are those of a target.
type ways []way

// preferred is the first that is not mute, or the first.
func (ws ways) preferred() *way {
	for i := range ws {
		if !ws[i].mute() {
			return &ws[i]
		}
	}
	return &ws[0]
}

// allMute says whether none is better than another.
func (ws ways) allMute() bool { return ws.preferred().mute() }

// next is the one to ask: the preferred one, and when that has not answered as
// soon as it would as a rule, each in turn.
func (ws ways) next(now time.Time, soon time.Duration) int {
	all := ws.allMute()
	for i := range ws {
		w := &ws[i]
		if w.mute() && !all {
			continue
		}
		if w.asked.IsZero() {
			w.asked = now
			return i
		}
		if now.Sub(w.asked) < soon {
			return i
		}
	}
	ws.newTurn()
	return ws.next(now, soon)
}

// by is a way to ask a peer: the first that is not mute, or any; -1: none.
func (ws ways) by(peer netip.Addr) int {
	found := -1
	for i := range ws {
		if ws[i].to.Addr() == peer && (found < 0 || ws[found].mute() && !ws[i].mute()) {
			found = i
		}
	}
	return found
}

// stranger is a way to ask a peer for the first time, so that it is known
// whether its silence says something; -1: there is none.
func (ws ways) stranger(known map[netip.Addr]time.Time) int {
	for i := range ws {
		if _, ok := known[ws[i].to.Addr()]; !ok && !ws[i].met {
			ws[i].met = true
			return i
		}
	}
	return -1
}

func (ws ways) newTurn() {
	for i := range ws {
		ws[i].asked = time.Time{}
	}
}

// heard notes an answer. If all were mute, the path was to blame: the others
// are worth a try again.
func (ws ways) heard(w *way) {
	if ws.allMute() {
		for i := range ws {
			ws[i].misses = 1
		}
	}
	w.misses, w.blamed = 0, 0
	ws.newTurn()
}

// missed notes that a probe was not answered.
func (w *way) missed(sent time.Time) {
	if w.misses == 0 {
		w.since = sent
	}
	w.misses++
}
