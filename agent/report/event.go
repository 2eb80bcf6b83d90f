// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package report

import "strconv"

// Told is an event as it is broadcast, which knows what is remembered of it.
type Told interface{ Entry() Event }

// WANEvent is the event braid.wan: a WAN is in another state.
type WANEvent struct {
	WAN    string `json:"wan"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// Entry implements Told.
func (e WANEvent) Entry() Event {
	return Event{Type: EventWAN, Name: e.WAN, From: e.From, To: e.To, Reason: e.Reason}
}

// ConverterEvent is the event braid.converter: a converter is in another
// state.
type ConverterEvent struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Entry implements Told.
func (e ConverterEvent) Entry() Event {
	return Event{Type: EventConverter, Name: e.Name, From: e.From, To: e.To}
}

// ConfigEvent is the event braid.config: the configuration has been read, and
// is in force if it was OK.
type ConfigEvent struct {
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
}

// Entry implements Told. The first problem stands for all.
func (e ConfigEvent) Entry() Event {
	entry := Event{Type: EventConfig, To: "taken"}
	if !e.OK {
		entry.To = "refused"
	}
	if len(e.Problems) > 0 {
		p := e.Problems[0]
		entry.Name, entry.Reason = p.Section, p.Message
	}
	return entry
}

// ModemEvent is the event braid.modem: a WAN's modem stands otherwise with its
// network. The states are absent, locked, failed, unknown and registrations.
type ModemEvent struct {
	WAN    string `json:"wan"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// Entry implements Told.
func (e ModemEvent) Entry() Event {
	return Event{Type: EventModem, Name: e.WAN, From: e.From, To: e.To, Reason: e.Reason}
}

// QuotaEvent is the event braid.quota: a WAN has used so much of its quota.
type QuotaEvent struct {
	WAN     string `json:"wan"`
	Percent int    `json:"percent"`
}

// Entry implements Told.
func (e QuotaEvent) Entry() Event {
	return Event{Type: EventQuota, Name: e.WAN, To: strconv.Itoa(e.Percent), Reason: strconv.Itoa(e.Percent) + " % of the quota is used"}
}

// Event is what is remembered of an event. Age is in seconds.
type Event struct {
	Number int    `json:"number"` // from 1
	Age    int    `json:"age"`
	Type   string `json:"type"`
	Name   string `json:"name"` // of the WAN, the converter or the section
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// The types of events.
const (
	EventWAN       = "wan"
	EventConverter = "converter"
	EventConfig    = "config"
	EventModem     = "modem"
	EventQuota     = "quota"
)

// Events is the answer of the method "events": oldest first, and the number
// that the next one will have.
type Events struct {
	Events []Event `json:"events"`
	Next   int     `json:"next"`
}
