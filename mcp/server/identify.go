// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"

	"braid/transport/convert"
	"braid/transport/proof"
)

// request is what a connection begins with.
type request struct {
	convert.Message
	from    netip.Addr
	account *account      // nil: a stranger's
	holder  *proof.Holder // if it proves a key
	verdict proof.Verdict
}

// identify finds out who sends a message of which b are the bytes. A key or a
// cookie, which name one client, are preferred to a network, which may be
// shared; a wrong one does not take away what the network gives.
func (s *Server) identify(from netip.Addr, b []byte, m convert.Message) request {
	r := request{Message: m, from: from}
	cs := s.clients.Load()
	cookie, shown := convert.Find[convert.Cookie](m)
	if a := cs.byKey(cookie); a != nil {
		a.mu.Lock()
		holder := a.holder
		a.mu.Unlock()
		if holder != nil {
			if r.verdict = holder.Check(s.issuer, b, m); r.verdict != proof.Wrong {
				r.account, r.holder = a, holder
				return r
			}
		}
	}
	if r.account = cs.byCookie(cookie); r.account != nil {
		return r
	}
	if shown {
		s.Stats.WrongCookies.Add(1)
		s.wrong.warn(s.Log, "wrong cookie or proof", "from", from)
	}
	r.account = cs.byNetwork(from)
	return r
}

// answer encodes an answer to r, with a ticket in it where the request was
// proved and asks for nothing else.
func (s *Server) answer(r request, m convert.Message) ([]byte, error) {
	_, connects := convert.Find[convert.Connect](r.Message)
	if r.holder == nil || connects {
		return m.Append(nil)
	}
	return r.holder.Grant(s.issuer, r.verdict, r.Message, m)
}
