// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"sync"

	"braid/transport/convert"
)

// Wallet holds what a gateway shows to each of its converters. It is to be
// shared by all that ask them. The zero value is ready.
type Wallet struct {
	mu      sync.Mutex
	clients map[string]*Client // by converter and secret
}

// Credentials are what a converter knows a gateway by: a key, else a cookie,
// else neither.
type Credentials struct {
	Converter   string // its name
	Key, Cookie []byte
}

// Request encodes a message to a converter with what it knows us by.
func (w *Wallet) Request(c Credentials, m convert.Message) (r Request, err error) {
	if len(c.Key) > 0 {
		return w.client(c).Prove(m)
	}
	if len(c.Cookie) > 0 {
		m.TLVs = append(m.TLVs[:len(m.TLVs):len(m.TLVs)], convert.Cookie{Value: c.Cookie})
	}
	r.Bytes, err = m.Append(nil)
	return r, err
}

func (w *Wallet) client(c Credentials) *Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := c.Converter + "\x00" + string(c.Key)
	if w.clients[id] == nil {
		if w.clients == nil {
			w.clients = make(map[string]*Client)
		}
		w.clients[id] = NewClient(c.Key)
	}
	return w.clients[id]
}
