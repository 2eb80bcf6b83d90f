// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package health finds out how the WANs fare: from light probes over each, and
// from what their devices receive. What it says changes with hysteresis.
package health

import (
	"net/netip"
	"time"
)

// Verdict says whether a path can be used.
type Verdict int

// The verdicts.
const (
	Up       Verdict = iota
	Degraded         // usable, and not as it should be
	Down
)

// Health is how a WAN fares in one family. The zero value is that of a path
// of which nothing bad is known.
type Health struct {
	Verdict Verdict
	Reason  string
	RTT     time.Duration // smoothed; 0 unknown
	Jitter  time.Duration // mean deviation of the round-trip time
	Loss    float64       // of the last probes, 0..1
}

// Path is a WAN in one family.
type Path struct {
	WAN  string
	IPv6 bool
}

// Target is a path that is to be probed.
type Target struct {
	Path
	Device string
	Source netip.Addr
	Peer   netip.Addr // invalid: there is nobody to ask, only silence is watched
	// Patient paths stall now and then without being dead, as cellular ones do.
	Patient bool
}

// Limits of what is believed. They are variables of no one: a path's own
// history moves them up, never down.
const (
	// silenceFixed and silenceCellular are how long a path that was busy may
	// receive nothing before it is dead.
	silenceFixed    = 150 * time.Millisecond
	silenceCellular = 600 * time.Millisecond
	// silenceUnknown holds until enough round trips have been seen.
	silenceUnknown = time.Second
	minSamples     = 5
	// suspicion is when silence is answered by a probe.
	suspicion = 60 * time.Millisecond
	// gapMemory is how long the longest silence that ended well is remembered;
	// a silence has to be gapFactor times as long to count.
	gapMemory = 10 * time.Minute
	gapFactor = 2

	// lostInARow is how many probes without an answer make a path dead.
	lostInARow = 3
	// proof is how long a path that was dead has to answer without a loss
	// before it is trusted again; it doubles with each death within
	// flapMemory, up to maxProof.
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
	busyInterval    = time.Second
	urgentInterval  = 250 * time.Millisecond // after a loss, and while proving
	suspectInterval = 40 * time.Millisecond
	deadInterval    = 2 * time.Second // nobody answers
	startProbes     = 6               // at urgentInterval, so that a new path is known soon
)
