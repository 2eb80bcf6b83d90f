// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package report

// History is the answer of the method "history": a point each Step seconds,
// oldest first.
type History struct {
	Step int          `json:"step"`
	WANs []WANHistory `json:"wans"`
}

// WANHistory is what one WAN carried, in bit/s, and its round trip; 0 where
// that was not known.
type WANHistory struct {
	Name string    `json:"name"`
	RX   []int64   `json:"rx"`
	TX   []int64   `json:"tx"`
	RTT  []float64 `json:"rtt"` // ms
}
