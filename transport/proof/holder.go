// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"slices"
	"sync"
	"sync/atomic"

	"braid/transport/convert"
)

// tickets is how many of a holder's are remembered: of that many gateways that
// share a key each keeps its own.
const tickets = 8

// Issuer hands out a converter's tickets.
type Issuer struct {
	run    uint64
	serial atomic.Uint64
}

// NewIssuer makes the issuer of one run. run must not be that of any other run
// of a converter with the same keys: it is to be drawn at random.
func NewIssuer(run uint64) *Issuer { return &Issuer{run: run} }

// Holder is the converter's side of a key. The zero value but for its key is
// ready.
type Holder struct {
	Key Key

	mu    sync.Mutex
	used  []usedTicket // by serial, the oldest first
	floor uint64       // serial up to which tickets have been forgotten
}

type usedTicket struct {
	serial uint64
	window window
}

// Verdict is what a converter finds of a proof.
type Verdict int

// The verdicts.
const (
	Wrong    Verdict = iota // not under the key
	First                   // under the key, without a ticket
	Stale                   // a ticket of another run or too old, a counter too far behind
	Replayed                // this very message has been here before
	Fresh                   // none of these
)

func (v Verdict) String() string {
	return [...]string{"wrong", "first", "stale", "replayed", "fresh"}[v]
}

// Check judges the proof that a client's message carries, and notes that it
// has been here. b are the bytes of the message, in which m lies.
func (h *Holder) Check(i *Issuer, b []byte, m convert.Message) Verdict {
	c := carried(m)
	f, ok := parse(c)
	if !ok || f.id != h.Key.ID || !valid(b, c, &h.Key.request, nil) {
		return Wrong
	}
	switch {
	case f.ticket == Ticket{}:
		return First
	case f.ticket.Run != i.run || f.ticket.Serial == 0 || f.ticket.Serial > i.serial.Load():
		return Stale
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.windowLocked(f.ticket.Serial)
	if w == nil {
		return Stale
	}
	switch w.take(f.counter) {
	case fresh:
		return Fresh
	case seen:
		return Replayed
	}
	return Stale
}

// windowLocked is the window of a ticket, nil for one that was forgotten.
func (h *Holder) windowLocked(serial uint64) *window {
	at, found := slices.BinarySearchFunc(h.used, serial, func(u usedTicket, s uint64) int {
		switch {
		case u.serial < s:
			return -1
		case u.serial > s:
			return 1
		}
		return 0
	})
	switch {
	case found:
		return &h.used[at].window
	case serial <= h.floor:
		return nil
	case len(h.used) < tickets:
		h.used = slices.Insert(h.used, at, usedTicket{serial: serial})
		return &h.used[at].window
	case at == 0: // older than all that are remembered
		return nil
	}
	h.floor = h.used[0].serial
	copy(h.used, h.used[1:at])
	h.used[at-1] = usedTicket{serial: serial}
	return &h.used[at-1].window
}

// Grant encodes an answer to a client's message m and puts a ticket into it:
// the one that the message shows if that is [Fresh], else a new one.
func (h *Holder) Grant(i *Issuer, v Verdict, m, answer convert.Message) ([]byte, error) {
	request := carried(m)
	f, _ := parse(request)
	if f.counter = 0; v != Fresh {
		f.ticket = Ticket{Run: i.run, Serial: i.serial.Add(1)}
	}
	answer.TLVs = append(slices.Clip(answer.TLVs), f.cookie())
	b, _, err := seal(answer, &h.Key.answer, request.Value[atMAC:])
	return b, err
}

// Refuse encodes error 3 (RFC 8803 section 6.2.8), which has the client ask
// once more with the ticket in it.
func (h *Holder) Refuse(i *Issuer, m convert.Message) ([]byte, error) {
	request := carried(m)
	f, _ := parse(request)
	f.ticket, f.counter = Ticket{Run: i.run, Serial: i.serial.Add(1)}, 0
	e := convert.Error{Code: convert.MissingCookie, Value: append([]byte{0}, f.cookie().Value...)}
	b, _, err := seal(convert.Reply(e), &h.Key.answer, request.Value[atMAC:])
	return b, err
}
