// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package status

import "time"

// condition is what was said of a WAN or converter last.
type condition struct {
	state, reason string
	since         time.Time
}

// become is the condition after c; since is when the state was another one.
func (c condition) become(state, reason string) condition {
	if c.state == state {
		return condition{state, reason, c.since}
	}
	return condition{state, reason, time.Now()}
}

func elapsed(since time.Time) int { return int(time.Since(since).Seconds()) }
