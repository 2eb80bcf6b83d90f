// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package converter

import (
	"slices"
	"time"

	"braid/agent/path"
)

// never is longer than any wait.
const never = 1000 * time.Hour

// intervalLocked is how long after a way was asked it is to be asked again.
func (m *Monitor) intervalLocked(p *peer, a *asker) time.Duration {
	first := p.target.Ways[0].Way == a.way
	busy := p.busy(a.way.Peer) != nil
	switch {
	case busy && p.firstTo(a):
		return p.full[a.way.Peer].end.Sub(a.began)
	case busy, a.answer.State == path.ConverterUnknown: // others are being asked, or are full
		return never
	case a.answer.State == path.ConverterUp && first:
		return upInterval
	case a.answer.State == path.ConverterUp && (a.answer.MPTCP || !p.mptcp()):
		return never
	}
	most := maxInterval
	if p.metered(a) {
		most = maxMetered
	}
	least := p.least(a)
	if p.status.State != path.ConverterUp && time.Since(m.missed) < missedTime {
		return least
	}
	return max(least, min(time.Since(a.failing)/longing, most))
}

// least is how soon a way is asked again at first.
func (p *peer) least(a *asker) time.Duration {
	if p.metered(a) && slices.ContainsFunc(p.target.Ways, func(w Way) bool { return !w.Metered }) {
		return spareInterval
	}
	return downInterval
}

// metered says whether a way is one over a metered leg now.
func (p *peer) metered(a *asker) bool {
	for _, w := range p.target.Ways {
		if w.Way == a.way {
			return w.Metered
		}
	}
	return false
}
