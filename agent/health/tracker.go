// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"time"
)

// tracker is the history of one path. It knows no clock: every method is told
// the time.
type tracker struct {
	patient bool

	srtt, rttvar time.Duration // RFC 6298 section 2
	samples      int
	outcomes     [window]bool // answered; a ring
	probes       int          // whose outcome is known

	down       bool
	reason     string
	lost       int       // in a row
	alone      bool      // nobody else was answered either: the fault may be the peer's
	provenFrom time.Time // of the first answer since the last loss, while down
	deaths     int
	lastDeath  time.Time
	gap        time.Duration // the longest silence that ended well
	gapAt      time.Time
}

// answered notes the answer to a probe.
func (t *tracker) answered(now time.Time, rtt time.Duration) {
	if t.samples == 0 {
		t.srtt, t.rttvar = rtt, rtt/2
	} else {
		t.rttvar += ((t.srtt - rtt).Abs() - t.rttvar) / 4
		t.srtt += (rtt - t.srtt) / 8
	}
	t.samples++
	t.outcome(true)
	t.lost, t.alone = 0, false
	t.prove(now)
}

// prove notes that nothing speaks against a path that was dead; when that has
// been so for long enough, it lives.
func (t *tracker) prove(now time.Time) {
	if t.down && t.provenFrom.IsZero() {
		t.provenFrom = now
	}
	if t.down && now.Sub(t.provenFrom) >= t.proof(now) {
		t.down, t.reason = false, ""
	}
}

// missed notes a probe without an answer. Others says that other paths are
// being answered; if none is, the fault is the peer's as likely as not, and
// this path is as good as any.
func (t *tracker) missed(now time.Time, others bool) {
	t.outcome(false)
	t.lost++
	t.alone = !others && t.lost >= lostInARow
	switch {
	case t.alone:
		t.prove(now)
	case t.down:
		t.provenFrom = time.Time{}
	case t.lost >= lostInARow:
		t.die(now, fmt.Sprintf("%d probes without an answer", t.lost))
	}
}

// silent notes that a path which was busy has received nothing for a time, nor
// the answer to a probe that was sent asked ago.
func (t *tracker) silent(now time.Time, silence, asked time.Duration) {
	if !t.down && silence >= t.patience(now) && asked >= t.srtt+2*t.rttvar {
		t.die(now, fmt.Sprintf("received nothing for %d ms", silence.Milliseconds()))
	}
}

// endured notes a silence that ended by itself.
func (t *tracker) endured(now time.Time, silence time.Duration) {
	if silence > t.gap || now.Sub(t.gapAt) > gapMemory {
		t.gap, t.gapAt = silence, now
	}
}

// gone notes that the path's link or address is not there.
func (t *tracker) gone(now time.Time) {
	if !t.down {
		t.die(now, "was away")
	}
	t.provenFrom = time.Time{}
}

func (t *tracker) die(now time.Time, reason string) {
	if now.Sub(t.lastDeath) > flapMemory {
		t.deaths = 0
	}
	t.down, t.reason, t.provenFrom = true, reason, time.Time{}
	t.deaths++
	t.lastDeath = now
}

// patience is how long a silence may be.
func (t *tracker) patience(now time.Time) time.Duration {
	p := silenceFixed
	if t.patient {
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

// timeout is when an answer is overdue: like RFC 6298's RTO, without its
// minimum.
func (t *tracker) timeout() time.Duration {
	if t.samples < minSamples {
		return silenceUnknown
	}
	return t.srtt + 4*t.rttvar
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

func (t *tracker) health() Health {
	h := Health{RTT: t.srtt, Jitter: t.rttvar, Reason: t.reason}
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
			h.Reason += ", and answers again"
		}
	case t.alone:
		h.Verdict, h.Reason = Degraded, "no WAN's probes are answered"
	case h.Loss >= degradedLoss && t.probes >= window:
		h.Verdict, h.Reason = Degraded, fmt.Sprintf("%.0f %% of the probes are lost", 100*h.Loss)
	}
	return h
}
