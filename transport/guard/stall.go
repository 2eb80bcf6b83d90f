// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package guard

import "time"

// How long a line may stand still without being dead: one fact, and what the
// two ends make of it.
//
// The gateway knows its lines, asks over them, and takes a dead one away, which
// is put right when the line returns. A guard knows only what is acknowledged;
// what it destroys nobody makes again by itself. So it has to be the later one
// of the two: after what the gateway waits, a probe's round trip, and the
// RM_ADDR that tells of it. A guard that waited 500 ms destroyed, for a fade of
// 300 to 580 ms, what the gateway never saw die.
const (
	// Stall is how long a cellular line may receive nothing.
	Stall = 600 * time.Millisecond
	// unacknowledged is the least time without an acknowledgement after which a
	// subflow is dead.
	unacknowledged = Stall * 5 / 2
)
