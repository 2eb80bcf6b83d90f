// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"net/netip"
	"time"
)

// tracker is the history of one path. It knows no clock: every method is told
// the time.
type tracker struct {
	patient bool // by nature

	source       netip.Addr    // from which the last answered probe was sent
	peer         netip.Addr    // whose round trips these are
	srtt, rttvar time.Duration // RFC 6298 section 2
	samples      int
	outcomes     [window]bool             // answered; a ring
	probes       int                      // whose outcome is known
	heard        time.Time                // when the last probe that was answered was sent
	peers        map[netip.Addr]time.Time // the same of each peer that ever answered

	mtu int // 0: as the device's, or not known

	down       bool
	reason     string
	lost       int       // in a row
	lostFrom   time.Time // when the first of them was sent
	condemned  time.Time // when that was first seen to be the path's fault
	alone      bool      // nobody can tell whether it is: it may be the peer's
	receiving  bool      // something else came in when the last one was lost
	provenFrom time.Time // of the first answer since the last loss, while down
	doubted    bool      // it may be dying
	doubtedAt  time.Time // when it last seemed so
	deaths     int
	lastDeath  time.Time
	judged     time.Time     // when that was, if it was not seen to be away and nothing has shown yet that it lives
	acquitted  time.Time     // when one was last seen to have been none
	bearing    time.Duration // for how long the path is patient since then
	gap        time.Duration // the longest silence that ended well
	gapAt      time.Time
}

// measure notes the time that a peer took to answer. Another peer's times have
// nothing to do with those before.
func (t *tracker) measure(peer netip.Addr, rtt time.Duration) {
	if peer != t.peer {
		t.peer, t.samples = peer, 0
	}
	if t.samples == 0 || t.samples < youngSamples && rtt < t.srtt/4 {
		// The first ones may have waited for a neighbour's address or a modem,
		// all that were sent in the meantime.
		t.srtt, t.rttvar = rtt, rtt/2
	} else {
		t.rttvar += ((t.srtt - rtt).Abs() - t.rttvar) / 4
		t.srtt += (rtt - t.srtt) / 8
	}
	t.samples++
}

// answered notes the answer to a probe that was sent at a time. Late says that
// it has been given up before.
func (t *tracker) answered(now, sent time.Time, peer netip.Addr, late bool) {
	if late {
		t.amend()
	} else {
		t.outcome(true)
	}
	if sent.After(t.heard) {
		t.heard = sent
	}
	if t.peers == nil {
		t.peers = make(map[netip.Addr]time.Time)
	}
	if sent.After(t.peers[peer]) {
		t.peers[peer] = sent
	}
	if t.alone { // it was the peer
		for range min(t.lost, window) {
			t.amend()
		}
	}
	t.lost, t.alone = 0, false
	if !sent.After(t.judged) && now.Sub(sent) <= maxStall {
		t.acquit(now)
	}
	t.prove(now)
}

// acquit notes that the path was not dead when it was taken for that.
func (t *tracker) acquit(now time.Time) {
	t.bearing = min(2*t.bearing, maxStallMemory)
	if t.bearing == 0 || now.Sub(t.acquitted) > stallHistory {
		t.bearing = stallMemory
	}
	t.acquitted, t.judged = now, time.Time{}
}

// stalls says whether the path does so without being dead.
func (t *tracker) stalls(now time.Time) bool {
	return t.patient || t.bearing > 0 && now.Sub(t.acquitted) < t.bearing
}

// prove notes that nothing speaks against a path that was dead; when that has
// been so for long enough, it lives.
func (t *tracker) prove(now time.Time) {
	if t.down && t.provenFrom.IsZero() {
		t.provenFrom = now
	}
	if t.down && now.Sub(t.provenFrom) >= t.proof(now) {
		t.down, t.reason = false, ""
		t.probes = 0 // those that were lost have been paid for
	}
}

// missed notes a probe without an answer. Condemned says that there is reason
// to believe that the fault is the path's; if there is none, it is the peer's
// as likely as not, and this path is as good as any. Receiving says that the
// path receives something else.
func (t *tracker) missed(now, sent time.Time, condemned, receiving bool) {
	t.outcome(false)
	if t.lost == 0 {
		t.lostFrom, t.condemned = sent, time.Time{}
	}
	if condemned && t.condemned.IsZero() {
		t.condemned = now
	}
	t.lost++
	t.receiving = receiving
	enough := lostFor
	if t.stalls(now) {
		enough = lostForPatient
	}
	if receiving {
		enough = lostForReceiving
	}
	row := now.Sub(t.lostFrom)
	t.alone = !condemned && t.lost >= lostInARow && row >= lostForPatient // others may be slow
	switch {
	case t.alone:
		t.prove(now)
	case t.down:
		t.provenFrom = time.Time{}
	case condemned && t.lost >= lostInARow && row >= enough && !sent.Before(t.condemned):
		// Not for a probe that was lost before: the peer may be back just now.
		t.die(now, fmt.Sprintf("%d probes without an answer", t.lost))
	}
}

// silent notes that a path which was busy has received nothing for a time, nor
// the answer to a probe that was sent asked ago.
func (t *tracker) silent(now time.Time, silence, asked time.Duration) {
	if !t.down && t.answers() && silence >= t.patience(now) && asked >= t.soon() {
		t.die(now, fmt.Sprintf("received nothing for %d ms", silence.Milliseconds()))
	}
}

// mute says that the path has died of its silence, and that its device, which
// received something last at a time, has been silent since, or receives because
// the path is about to prove itself.
func (t *tracker) mute(received time.Time) bool {
	return t.down && !t.judged.IsZero() && (!t.provenFrom.IsZero() || !received.After(t.lastDeath.Add(slowTick)))
}

// doubt notes whether the path seems to be dying: a probe was not answered, or
// one that it was sent for its silence is late.
func (t *tracker) doubt(now time.Time, late bool) {
	if t.answers() && late || t.lost > 0 {
		t.doubted, t.doubtedAt = true, now
	}
	if now.Sub(t.doubtedAt) >= doubtMemory {
		t.doubted = false
	}
}

// answers says whether probes are answered as a rule, so that one that is not
// says something.
func (t *tracker) answers() bool { return t.samples > 0 && !t.alone }

// soon is when most answers are there.
func (t *tracker) soon() time.Duration { return t.srtt + 2*t.rttvar }

// endured notes a silence that ended by itself.
func (t *tracker) endured(now time.Time, silence time.Duration) {
	if silence <= maxGap && (silence > t.gap || now.Sub(t.gapAt) > gapMemory) {
		t.gap, t.gapAt = silence, now
	}
}

// gone notes that the path's link or address is not there.
func (t *tracker) gone(now time.Time) {
	if !t.down {
		t.die(now, "was away")
	}
	t.provenFrom, t.judged = time.Time{}, time.Time{}
	t.lost, t.alone = 0, false
}

func (t *tracker) die(now time.Time, reason string) {
	if now.Sub(t.lastDeath) > flapMemory {
		t.deaths = 0
	}
	t.down, t.reason, t.provenFrom = true, reason, time.Time{}
	t.deaths++
	t.lastDeath, t.judged = now, now
}

// patience is how long a silence may be.
func (t *tracker) patience(now time.Time) time.Duration {
	p := silenceFixed
	if t.stalls(now) {
		p = silenceCellular
	}
	if t.samples < minSamples {
		p = max(p, silenceUnknown)
	}
	if now.Sub(t.gapAt) <= gapMemory {
		p = max(p, gapFactor*t.gap)
	}
	return max(p, t.timeout())
}

// timeout is when an answer is late: like RFC 6298's RTO, without its minimum.
func (t *tracker) timeout() time.Duration {
	if t.samples < minSamples {
		return silenceUnknown
	}
	return t.srtt + 4*t.rttvar
}

// overdue is when a probe counts as lost. Twice the timeout, so that a peer
// which answers others after that was there for this probe too.
func (t *tracker) overdue(now time.Time) time.Duration {
	least := overdueFixed
	if t.stalls(now) {
		least = overduePatient
	}
	return max(least, 2*t.timeout())
}

func (t *tracker) proof(now time.Time) time.Duration {
	if now.Sub(t.lastDeath) > flapMemory {
		return proof
	}
	return min(proof<<min(max(t.deaths-2, 0), 8), maxProof)
}

func (t *tracker) outcome(answered bool) {
	t.outcomes[t.probes%window] = answered
	t.probes++
}

// amend makes the last loss an answer.
func (t *tracker) amend() {
	for i := t.probes - 1; i >= max(0, t.probes-window); i-- {
		if !t.outcomes[i%window] {
			t.outcomes[i%window] = true
			return
		}
	}
}

// interval is the time between two probes. Busy says that the path carries
// traffic, suspect that it has fallen silent, fresh that it has not been probed
// for long.
func (t *tracker) interval(busy, suspect, fresh bool) time.Duration {
	switch {
	case suspect && !t.down && t.answers():
		return suspectInterval
	case t.alone, t.down && t.provenFrom.IsZero() && t.lost > lostInARow:
		if t.patient && t.lost > patientDeadProbes {
			return patientDeadInterval
		}
		return deadInterval
	case t.down, t.lost > 0, fresh:
		return urgentInterval
	case busy:
		return busyInterval
	}
	return idleInterval
}

func (t *tracker) health() Health {
	h := Health{RTT: t.srtt, Jitter: t.rttvar, Reason: t.reason, Source: t.source, MTU: t.mtu, Doubted: t.doubted, Unheard: t.alone && !t.receiving}
	if n := min(t.probes, window); n > 0 {
		lost := 0
		for _, answered := range t.outcomes[:n] {
			if !answered {
				lost++
			}
		}
		h.Loss = float64(lost) / float64(n)
	}
	switch {
	case t.down:
		h.Verdict = Down
		if !t.provenFrom.IsZero() {
			h.Reason += ", and has to prove itself"
		}
	case t.alone:
		h.Verdict, h.Reason = Degraded, "its probes are not answered"
	case h.Loss >= degradedLoss && t.probes >= window:
		h.Verdict, h.Reason = Degraded, fmt.Sprintf("%.0f %% of the probes are lost", 100*h.Loss)
	}
	return h
}
