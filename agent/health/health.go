// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package health finds out how the WANs fare: from light probes over each, and
// from what their devices receive. What it says changes with hysteresis.
package health

import (
	"net/netip"
	"time"

	"braid/transport/guard"
)

// Verdict says whether a path can be used.
type Verdict int

// The verdicts.
const (
	Up       Verdict = iota
	Degraded         // usable, and not as it should be
	Down
)

func (v Verdict) String() string { return [...]string{"up", "degraded", "down"}[v] }

// Health is how a leg fares. The zero value is that of one of which nothing bad
// is known.
type Health struct {
	Verdict Verdict
	Reason  string
	RTT     time.Duration // smoothed; 0 unknown
	Jitter  time.Duration // mean deviation of the round-trip time
	Loss    float64       // of the last probes, 0..1
	Source  netip.Addr    // from which the last answered probe was sent
	// MTU is the largest packet that passes, where that is less than the device
	// and its modem say; 0: it is not, or not known.
	MTU int
	// Doubted says that it may be dying, and that it is time to prepare for that.
	Doubted bool
	// Unheard says that its probes are not answered, that nothing else came in
	// either, and that nobody can tell whether that is the path's fault.
	Unheard bool
}

// Leg is one family of a WAN over one device.
type Leg struct {
	WAN    string
	Device string
	IPv6   bool
}

// Target is a leg that is to be probed.
type Target struct {
	Leg
	Source netip.Addr
	// Others are addresses to try instead of Source as long as nobody answers.
	Others [2]netip.Addr
	// Ways are how it is asked. When there are none, the leg is dead with that of
	// the other family over the same device, if nothing comes in there any more.
	Ways Ways
	// MTU is the largest packet that device and modem take.
	MTU int
	// Patient legs stall now and then without being dead, as cellular ones do.
	Patient bool
	// Quiet legs are not probed, and are as well as they were.
	Quiet bool
}

// Limits of what is believed. A path's own history moves some of them up,
// never down.
const (
	// silenceFixed and silenceCellular are how long a path that was busy may
	// receive nothing before it is dead.
	silenceFixed    = 150 * time.Millisecond
	silenceCellular = guard.Stall
	// silenceUnknown holds until enough round trips have been seen.
	silenceUnknown = time.Second
	minSamples     = 5
	// youngSamples is within how many samples a round trip that is much shorter
	// than the others is the one that counts.
	youngSamples = 20
	// suspicion is when silence is answered by a probe.
	suspicion = 60 * time.Millisecond
	// gapMemory is how long the longest silence that ended well is remembered;
	// a silence has to be gapFactor times as long to count. One longer than
	// maxGap was an outage: that it ended is no reason to wait for the next.
	gapMemory = 10 * time.Minute
	gapFactor = 2
	maxGap    = time.Second
	// A path that was taken for dead and was not is patient for stallMemory,
	// doubled with each time within stallHistory, up to maxStallMemory. What
	// tells is the answer, within maxStall, to a probe that was sent before: a
	// stall holds it back, an outage loses it.
	maxStall       = 3 * time.Second
	stallMemory    = time.Hour
	maxStallMemory = 24 * time.Hour
	stallHistory   = 7 * 24 * time.Hour

	// doubtMemory is how long a doubt lasts that has shown to be none.
	doubtMemory = 10 * time.Second

	// lostInARow is how many probes without an answer make a path dead, if the
	// first of them was sent lostFor ago; lostForPatient on a path that is
	// patient, for a modem takes a while to wake; lostForReceiving on one that
	// receives something else, for a full queue delays and drops probes as it does
	// everything.
	lostInARow       = 3
	lostFor          = time.Second
	lostForPatient   = 3 * time.Second
	lostForReceiving = 5 * time.Second
	// overdueFixed and overduePatient are the least time after which a probe
	// is lost.
	overdueFixed   = 250 * time.Millisecond
	overduePatient = time.Second
	// proof is how long a path that was dead has to answer without a loss
	// before it is trusted again; from the third death within flapMemory on it
	// doubles with each, up to maxProof.
	proof      = 2 * time.Second
	maxProof   = time.Minute
	flapMemory = 10 * time.Minute
	// window is how many probes Loss looks back, degradedLoss what is too
	// much.
	window       = 20
	degradedLoss = 0.1
)

// Intervals between probes.
const (
	idleInterval    = 30 * time.Second
	idleTCPInterval = time.Minute // what asks by TCP costs several times as much
	busyInterval    = time.Second
	urgentInterval  = 250 * time.Millisecond // after a loss, and while proving
	suspectInterval = 40 * time.Millisecond
	deadInterval    = 2 * time.Second // nobody answers
	startProbes     = 6               // at urgentInterval, so that a new path is known soon
	// patientDeadInterval is that of a patient path after patientDeadProbes:
	// where nobody ever answers, the requests alone add up.
	patientDeadInterval = 25 * time.Second
	patientDeadProbes   = 60
)
