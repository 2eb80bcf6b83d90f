// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package quota

import "time"

// fastest is what no WAN carries more of, in bytes a second. A counter that is
// lower than before has wrapped if the device could have carried that much in
// the meantime, and has begun anew if not.
const fastest = 10e9 / 8

// slack is by how much a clock may differ from another without having been
// set anew.
const slack = time.Minute

// meter turns readings of counters into bytes carried.
type meter struct {
	last Reading
	at   Moment // of last; Boot is empty before the first
}

// stepped says whether the clock has been set since the last reading, or may
// have been.
func (m *meter) stepped(now Moment) bool {
	return now.Boot != m.at.Boot || (now.Wall.Sub(m.at.Wall)-(now.Up-m.at.Up)).Abs() > slack
}

// advance is what a WAN has carried since the last reading.
func (m *meter) advance(now Moment, r Reading) (bytes uint64) {
	switch last := m.last; {
	case m.at.Boot == "":
		// The first reading of all: what was before is not known to be ours.
	case now.Boot == m.at.Boot && r.Index == last.Index:
		most := fastest * (now.Up - m.at.Up + time.Second).Seconds()
		bytes = carried(last.RX, r.RX, most) + carried(last.TX, r.TX, most)
	case now.Boot == m.at.Boot && r.Index > last.Highest, // made since
		now.Boot != m.at.Boot && r.Device == last.Device:
		bytes = r.RX + r.TX
	default:
		// Another device, which was there before it was this WAN's.
	}
	m.last, m.at = r, now
	return bytes
}

// carried is by how much a counter has advanced. Counters have 64 bits; those
// of some drivers have 32 on a kernel of 32 bits.
func carried(last, now uint64, most float64) uint64 {
	if now >= last {
		return now - last
	}
	if narrow := uint64(uint32(now - last)); last>>32 == 0 && float64(narrow) <= most {
		return narrow
	}
	if wide := now - last; float64(wide) <= most {
		return wide
	}
	return now
}
