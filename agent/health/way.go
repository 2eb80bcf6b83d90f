// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
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

// meet says whether one peer is asked by both.
func (w *Ways) meet(other *Ways) bool {
	for _, a := range w {
		for _, b := range other {
			if a.IsValid() && a.Addr() == b.Addr() {
				return true
			}
		}
	}
	return false
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
	w.misses = 0
	ws.newTurn()
}

// missed notes that a probe was not answered.
func (w *way) missed(sent time.Time) {
	if w.misses == 0 {
		w.since = sent
	}
	w.misses++
}
