// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"

	"braid/transport/mptcp"
)

const (
	// bdps is how many bandwidth-delay products of all its paths a connection
	// may hold. Less starves the paths, more has to be sent again at the death
	// of one.
	bdps = 3
	// breath is the least time whose worth a connection may hold of each path:
	// on short ones it is the programs at both ends that take their time.
	breath = 25 * time.Millisecond
	// overhead is what a byte of payload takes of the buffer.
	overheadNum, overheadDen = 5, 4
	// smallest and largest bound, in bytes of memory; beyond the largest the
	// kernel's own tuning is as good. The initial one leaves room to find out
	// what the paths carry.
	smallest = 128 << 10
	largest  = 4 << 20
	initial  = 1 << 20
	// What a path loses, or delivers late, keeps all that follows on any path
	// unacknowledged for another round trip. A lossy path has had to send so
	// much again within each of the last two spans: more, and more steadily, than
	// what congestion control loses in finding out what a line carries.
	lossyNum, lossyDen = 1, 200
	lossSpan           = 2 * time.Second
	// A path that has become slow, as cellular ones do, takes so many times its
	// least round trip, and that much longer, at so little of its rate. A queue
	// of our own making leaves the rate as it is, but for the start.
	slowRTT, slowRate = 2, 0.7
	slowMargin        = 60 * time.Millisecond
	// horizon is how far back rates and round trips are looked for.
	horizon = 10 * time.Second
)

// buffer is the bound of one connection's send buffer.
type buffer struct {
	lower time.Time // not before
	set   int       // 0: the kernel tunes
}

// size says how large the send buffer ought to be, and whether that is worth a
// change.
func (w *ward) size(flows []mptcp.Subflow, now time.Time) (bytes int, change bool) {
	if len(flows) < 2 && w.set == 0 {
		return 0, false
	}
	var sum, rates, repair float64 // bytes, bytes a second, ns
	for _, f := range flows {
		s := w.flows[pair{f.Local, f.Remote}]
		if f.RTT > 0 {
			s.rtt.add(now, float64(f.RTT))
		}
		s.rate.add(now, float64(f.DeliveryRate))
		rates += s.rate.value()
		sum += s.rate.value() * max(bdps*s.rtt.value(), float64(breath)) / float64(time.Second)
		if s.loss.add(now, f.BytesSent, f.BytesRetrans) || s.slow(f, now) {
			s.line.late.add(now, float64(f.RTT))
		}
		repair = max(repair, s.line.late.value(now))
	}
	sum += rates * repair / float64(time.Second)
	want := min(max(int(sum)*overheadNum/overheadDen, smallest), largest)
	switch {
	case w.set == 0 && want == largest:
		return 0, false
	case w.set == 0:
		w.lower = now.Add(slowTick)
		return max(want, initial), true
	case want > w.set*11/10: // room is given at once
		w.lower = now.Add(slowTick)
		return want, true
	case want < w.set*9/10 && now.After(w.lower): // and taken slowly
		w.lower = now.Add(slowTick)
		return max(want, w.set*8/10), true
	}
	return 0, false
}

// slow says whether a path is slower than it was.
func (s *subflow) slow(f mptcp.Subflow, now time.Time) bool {
	rtt, least := float64(f.RTT), s.rtt.value()
	return now.Sub(s.born) > lossSpan && rtt > slowRTT*least && rtt-least > float64(slowMargin) &&
		float64(f.DeliveryRate) < slowRate*s.rate.value()
}

// loss is what a subflow has sent again.
type loss struct {
	since         time.Time // of this span
	sent, retrans uint64    // until then
	before, lossy bool      // the last span but one, the last
}

// add says whether the path is a lossy one.
func (l *loss) add(now time.Time, sent, retrans uint64) bool {
	if now.Sub(l.since) >= lossSpan {
		l.before = l.lossy
		l.lossy = !l.since.IsZero() && (retrans-l.retrans)*lossyDen > (sent-l.sent)*lossyNum
		l.since, l.sent, l.retrans = now, sent, retrans
	}
	return l.lossy && l.before
}

// maximum and minimum are those of the last horizon, in two halves: cheap, and
// exact enough.
type maximum struct{ extreme }
type minimum struct{ extreme }

type extreme struct {
	old, cur float64
	turn     time.Time
}

func (m *maximum) add(now time.Time, v float64) {
	m.roll(now, v)
	m.cur = max(m.cur, v)
}

func (m *maximum) value() float64 { return max(m.old, m.cur) }

func (m *minimum) add(now time.Time, v float64) {
	m.roll(now, v)
	m.cur = min(m.cur, v)
}

func (m *minimum) value() float64 { return min(m.old, m.cur) }

func (e *extreme) roll(now time.Time, v float64) {
	switch {
	case e.turn.IsZero():
		e.old, e.cur, e.turn = v, v, now
	case now.Sub(e.turn) > horizon/2:
		e.old, e.cur, e.turn = e.cur, v, now
	}
}
