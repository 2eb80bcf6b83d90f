// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package report

// WANEvent is the event braid.wan: a WAN is in another state.
type WANEvent struct {
	WAN    string `json:"wan"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// ConverterEvent is the event braid.converter: a converter is in another
// state.
type ConverterEvent struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// ConfigEvent is the event braid.config: the configuration has been read, and
// is in force if it was OK.
type ConfigEvent struct {
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
}
