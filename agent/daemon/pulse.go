// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"sync/atomic"
	"time"

	"braid/onpath/tproxy"
)

// hung is after how long without a turn the loop counts as hung: none takes
// longer than its reconciliation may.
const hung = applyTimeout + 10*time.Second

// pulse has the packet filter hear from us while the loop turns, and all through
// a turn that takes long: reconciling takes seconds on a slow router with much
// to do, and the proxy serves meanwhile.
type pulse struct {
	heart  *tproxy.Heart
	turned atomic.Pointer[time.Time] // nil: nothing is intercepted
}

// beat notes that a turn has ended which leaves us intercepting.
func (p *pulse) beat() error {
	now := time.Now()
	p.turned.Store(&now)
	return p.heart.Beat()
}

// rest notes that nothing is intercepted.
func (p *pulse) rest() { p.turned.Store(nil) }

// hold beats for a turn that does not end.
func (p *pulse) hold(now time.Time) {
	at := p.turned.Load()
	if at == nil {
		return
	}
	if waited := now.Sub(*at); waited > beat+beat/4 && waited < hung {
		_ = p.heart.Beat() // the loop tells of what is wrong with it
	}
}
