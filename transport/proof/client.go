// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"

	"braid/transport/convert"
)

// Client proves a key to one converter. It is to be shared by all that ask
// this converter.
type Client struct {
	key Key

	mu      sync.Mutex
	ticket  Ticket
	counter uint64 // of the next message
}

// NewClient makes a client with the secret that it shares with the converter.
func NewClient(secret []byte) *Client { return &Client{key: NewKey(secret)} }

// Request is a message that has been proved. It holds once.
type Request struct {
	Bytes  []byte
	client *Client // nil: nothing is proved
	ticket Ticket
	mac    mac
}

// ErrForged is an answer that does not come from who has the key, or answers
// another request.
var ErrForged = errors.New("the converter's answer is not under the key")

// Prove encodes a message with a proof in it.
func (c *Client) Prove(m convert.Message) (r Request, err error) {
	f := fields{id: c.key.ID}
	c.mu.Lock()
	f.ticket = c.ticket
	if f.counter = c.counter; f.ticket == (Ticket{}) {
		f.counter = rand.Uint64() // has only to be another one each time
	}
	c.counter++
	c.mu.Unlock()
	r.client, r.ticket = c, f.ticket
	m.TLVs = append(slices.Clip(m.TLVs), f.cookie())
	r.Bytes, r.mac, err = seal(m, &c.key.request, nil)
	return r, err
}

// Hear takes the ticket out of the answer to a request, the bytes of one
// message. Whoever says what a converter can do has to have the key; else, and
// with a ticket that is not under it, the error is [ErrForged]. Of other answers
// nothing is said: they may be anybody's.
func (r Request) Hear(answer []byte) error {
	c := r.client
	if c == nil {
		return nil
	}
	m, n, err := convert.Parse(answer)
	if err != nil {
		return err
	}
	cookie := carried(m)
	if cookie.Value == nil {
		if _, can := convert.Find[convert.SupportedTCPExtensions](m); can {
			return ErrForged
		}
		return nil
	}
	f, ok := parse(cookie)
	of := r.mac // of few, where r is of all
	if !ok || f.id != c.key.ID || !valid(answer[:n], cookie, &c.key.answer, of[:]) {
		return ErrForged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// If it is another one by now, somebody else has heard of a new one first.
	if c.ticket == r.ticket && f.ticket != c.ticket {
		c.ticket, c.counter = f.ticket, 0
	}
	return nil
}

// Ready says whether there is a ticket, without which a Connect is refused.
func (c *Client) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ticket != Ticket{}
}
