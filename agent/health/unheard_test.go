// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"testing/synctest"
	"time"
)

// Of a line whose only peer has been silent since the start nobody can tell
// whether it is dead, in either family, though one of them cannot be asked.
func TestUnheardFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = time.Minute
		fibre := &line{rtt: func(at time.Duration) time.Duration {
			if at < silence {
				return -1
			}
			return 20 * ms
		}}
		asked := target("fibre", peer4, false)
		other := Target{Leg: Leg{asked.WAN, asked.Device, true}}
		run(t, map[string]*line{"fibre": fibre}, []Target{asked, other}, func(s *sim) {
			time.Sleep(silence / 2)
			for leg, h := range s.m.Health() {
				if !h.Unheard || h.Verdict == Down {
					t.Errorf("%v while nobody answers: %+v", leg, h)
				}
			}
			time.Sleep(silence)
			for leg, h := range s.m.Health() {
				if h.Unheard || h.Verdict != Up {
					t.Errorf("%v when the peer answers: %+v", leg, h)
				}
			}
		})
	})
}
