// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
)

// capacity is what both lines together can bring of a download, in Mbit/s: of
// 1500 bytes of a full packet 1448 are payload (IPv4, TCP with timestamps).
var capacity = float64(fixed.Rate+cellular.Rate) / 1e6 * 1448 / 1500

// aliveMbps is what a line carries at least that takes part in a download.
const aliveMbps = 5

// result is what the demo has shown. Rates are of payload, in Mbit/s, stalls
// in ms.
type result struct {
	Fixed     float64 `json:"fixed_mbps"`
	Cellular  float64 `json:"cellular_mbps"`
	Bond      float64 `json:"bond_mbps"`
	Aggregate float64 `json:"aggregate_of_capacity"`
	StallDown int64   `json:"stall_link_down_ms"`
	StallHole int64   `json:"stall_black_hole_ms"`
	Lost      int64   `json:"lost_bytes"`
}

// rounded has no more digits than mean something.
func (r result) rounded() result {
	to := func(v, digits float64) float64 { return math.Round(v*digits) / digits }
	r.Fixed, r.Cellular, r.Bond = to(r.Fixed, 10), to(r.Cellular, 10), to(r.Bond, 10)
	r.Aggregate = to(r.Aggregate, 1000)
	return r
}

// missed says what could not be shown.
func (s *story) missed(r result) error {
	var errs []error
	if s.lost != nil {
		errs = append(errs, fmt.Errorf("the download broke: %w", s.lost))
	}
	if r.Lost != 0 {
		errs = append(errs, fmt.Errorf("%d bytes were lost", r.Lost))
	}
	if r.Bond <= max(r.Fixed, r.Cellular) {
		errs = append(errs, errors.New("both lines together were not faster than the better one"))
	}
	if s.back.fixed < aliveMbps {
		errs = append(errs, fmt.Errorf("the fixed line carried %.1f Mbit/s after it was plugged in again", s.back.fixed))
	}
	if s.again.fixed < aliveMbps {
		errs = append(errs, fmt.Errorf("the fixed line carried %.1f Mbit/s after its black hole", s.again.fixed))
	}
	return errors.Join(errs...)
}
