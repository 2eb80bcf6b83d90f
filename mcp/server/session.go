// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"braid/transport/convert"
	"braid/transport/guard"
	"braid/transport/journal"
	"braid/transport/mptcp"
	"braid/transport/proof"
	"braid/transport/relay"
)

// Limits of a connection that is not relayed yet.
const (
	requestTimeout = 10 * time.Second // from accept to the end of the Convert message
	dialTimeout    = 20 * time.Second // from there to the server's SYN+ACK
	goodbyeTimeout = 5 * time.Second  // after an error the client is to close
	goodbyeBytes   = 256 << 10
	// watchInterval is how often it is looked at most whether a client that waits
	// for its server still does.
	watchInterval = 200 * time.Millisecond
)

// session is one client connection.
type session struct {
	server *Server
	client *mptcp.Conn

	// Under the server's lock, nil until it is known.
	account *account
	far     *mptcp.Conn // to the server that the client wants

	gate     *gate          // where it waits as a stranger; nil: nowhere
	stranger *stranger      // as which
	confined func()         // ends what confine has begun; nil: nothing
	remote   netip.AddrPort // of far
	pair     relay.Pair
	ward     guard.Ward
	memory   int64 // that it was given, in bytes
	began    time.Time
	carried  atomic.Bool // the pair has started
}

// serve is the life of a connection until it is relayed, or its end.
func (se *session) serve(ctx context.Context) {
	s := se.server
	defer s.running.Done()
	relayed := false
	defer func() {
		if p := recover(); p != nil {
			// A fault that one connection meets must not end all the others.
			s.Stats.Panics.Add(1)
			s.Log.Error("serving a connection", "panic", p, "stack", string(debug.Stack()))
			se.client.Reset()
		}
		if !relayed {
			se.known()
			s.remove(se)
		}
	}()
	relayed = se.negotiate(ctx)
}

// receive reads the message that a connection begins with, and what has come
// right behind it. Who has not sent all of it yet has to wait as a stranger.
func (se *session) receive(ctx context.Context) (m convert.Message, b, rest []byte, err error) {
	const packet = 1500 // of which the request is a part, if it was in the SYN; and longer than any
	for b = make([]byte, 0, packet); ; {
		n, err := se.client.ReadNow(b[len(b):cap(b)])
		if errors.Is(err, syscall.EAGAIN) {
			se.queue()
			se.confine(ctx)
			n, err = se.client.Read(b[len(b):cap(b)])
		}
		if err != nil {
			return m, nil, nil, err
		}
		b = b[:len(b)+n]
		m, whole, err := convert.Parse(b)
		if _, short := err.(*convert.ShortError); short {
			continue
		}
		return m, b[:whole:whole], b[whole:], err
	}
}

// queue has the connection wait among the strangers, of whom the oldest goes where
// they are too many.
func (se *session) queue() {
	s, from := se.server, se.client.Remote.Addr()
	if se.gate != nil {
		return
	}
	se.gate = &s.strangers
	if s.clients.Load().byNetwork(from) != nil {
		se.gate = &s.neighbours
	}
	st, oldest := se.gate.enter(se.client, source(from))
	if se.stranger = st; oldest != nil {
		s.Stats.Shed.Add(1)
		oldest.Reset()
	}
}

// confine has the kernel keep little of what the peer sends, until known is
// called. A connection whose SYN had data is confined when its third ACK has
// come, before which it can send nothing more.
func (se *session) confine(ctx context.Context) {
	if se.confined != nil {
		return
	}
	se.confined = func() {}
	if se.tryConfine() {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		if se.client.WaitEstablished(ctx, math.MaxInt64) == nil {
			se.tryConfine()
		}
	}()
	se.confined = func() {
		cancel()
		<-doneC
	}
}

// tryConfine resets a connection that has filled the kernel's memory before it
// could be confined.
func (se *session) tryConfine() bool {
	done, err := se.client.Confine()
	if err != nil {
		se.server.Stats.Shed.Add(1)
		se.client.Reset()
	}
	return done
}

// known is called when it is known whose the connection is, or that it has ended.
func (se *session) known() {
	if se.gate != nil {
		se.gate.leave(se.stranger)
	}
	if se.confined != nil {
		se.confined()
	}
}

// negotiate brings a connection to where it is relayed, or ends it with an
// answer.
func (se *session) negotiate(ctx context.Context) (relayed bool) {
	s, c := se.server, se.client
	from := c.Remote.Addr()
	s.Stats.Accepted.Add(1)
	if !c.MPTCP {
		s.Stats.AcceptedTCP.Add(1)
	}
	s.makeRoom()
	c.SetReadDeadline(time.Now().Add(s.requestTimeout))
	m, b, rest, err := se.receive(ctx)
	if err != nil {
		se.queue()
		se.gate.heard(se.stranger)
		se.refuse(ctx, request{account: s.clients.Load().byNetwork(from), from: from}, s.requestError(err))
		return false
	}
	r := s.identify(from, b, m)
	if r.account == nil {
		se.queue()
		se.gate.heard(se.stranger)
		se.refuse(ctx, r, convert.Error{Code: convert.NotAuthorized})
		return false
	}
	se.known()
	if err := m.CheckRequest(); err != nil {
		se.refuse(ctx, r, err)
		return false
	}
	connect, ok := convert.Find[convert.Connect](m)
	if !ok { // then it is Info
		se.info(ctx, r)
		return false
	}
	if r.holder != nil && r.verdict != proof.Fresh {
		se.proveAgain(ctx, r)
		return false
	}
	if err := s.admit(r); err != nil {
		se.refuse(ctx, r, err)
		return false
	}
	defer func() {
		if !relayed {
			s.release(r.account)
		}
	}()
	c.SetReadDeadline(time.Time{})
	far, err := se.connect(ctx, r.account, connect)
	if err != nil {
		s.Log.Debug("refusing", "client", r.account.name, "server", connect.Remote, "error", err)
		se.refuse(ctx, r, err)
		return false
	}
	s.mu.Lock()
	removed := r.account.removed
	if !removed {
		se.account, se.far = r.account, far
	}
	s.mu.Unlock()
	if removed { // while the server was dialled
		far.Reset()
		se.refuse(ctx, r, convert.Error{Code: convert.NotAuthorized})
		return false
	}
	se.remote = connect.Remote
	se.pair.First = rest
	return se.relay(ctx, connect.Extended())
}

// admit counts a connection of a known client, until release. It is pending until
// the account's connected.
func (s *Server) admit(r request) error {
	if s.full() {
		return convert.RetryError(convert.ResourceExceeded, time.Second)
	}
	if err := r.account.admit(r.from, time.Now()); err != nil {
		return err
	}
	s.admitted.Add(1)
	s.makeRoom() // for the other end
	return nil
}

func (s *Server) release(a *account) {
	s.admitted.Add(-1)
	a.release()
}

// info tells a known client what the converter can do, which is free.
func (se *session) info(ctx context.Context, r request) {
	if expired(r.account.config(), time.Now()) {
		se.refuse(ctx, r, convert.Error{Code: convert.NotAuthorized})
		return
	}
	r.account.saw(r.from)
	s := se.server
	b, err := s.answer(r, s.info(ctx, r.Message, s.full() || r.account.full()))
	if err == nil {
		se.end(ctx, r, b)
	}
}

// proveAgain answers a Connect whose proof is right, but not fresh.
func (se *session) proveAgain(ctx context.Context, r request) {
	s := se.server
	b, err := r.holder.Refuse(s.issuer, r.Message)
	if err != nil {
		return
	}
	s.Stats.refused(convert.MissingCookie)
	r.account.refuse(r.verdict.String() + " proof")
	if r.verdict == proof.Replayed {
		s.wrong.warn(s.Log, "replayed proof", "client", r.account.name, "from", r.from)
	}
	se.end(ctx, r, b)
}

// connect opens the connection to the server, MPTCP if it speaks it.
func (se *session) connect(ctx context.Context, a *account, connect convert.Connect) (*mptcp.Conn, error) {
	defer a.connected()
	s := se.server
	if kinds := connect.Options.Unsupported(convert.KindMPTCP); len(kinds) > 0 {
		return nil, convert.Error{Code: convert.UnsupportedTCPOption, Value: kinds}
	}
	if err := s.allowed(a.config(), connect.Remote); err != nil {
		return nil, err
	}
	now := time.Now()
	far, err := s.dial(&dialling{Context: ctx, client: se.client, until: now.Add(s.dialTimeout), asked: now}, connect.Remote)
	if err != nil {
		return nil, dialError(err)
	}
	return far, nil
}

// dialling is in which a server is dialled: it ends when its client has gone, too,
// of which nobody is told who does not ask.
type dialling struct {
	context.Context
	client *mptcp.Conn
	until  time.Time
	asked  time.Time // last
	gone   bool
}

// Deadline implements context.Context.
func (d *dialling) Deadline() (time.Time, bool) { return d.until, true }

// Err implements context.Context.
func (d *dialling) Err() error {
	now := time.Now()
	if now.Sub(d.asked) >= watchInterval {
		d.asked, d.gone = now, d.gone || d.client.Gone()
	}
	switch err := d.Context.Err(); {
	case err != nil:
		return err
	case d.gone:
		return context.Canceled
	case !now.Before(d.until):
		return context.DeadlineExceeded
	}
	return nil
}

// dial connects to a server from the next of the configured addresses of its
// family, or another one where all ports of that are taken.
func (s *Server) dial(ctx context.Context, remote netip.AddrPort) (*mptcp.Conn, error) {
	var sources []netip.Addr
	for _, a := range s.config.Load().Source {
		if a.Is4() == remote.Addr().Is4() {
			sources = append(sources, a)
		}
	}
	if len(sources) == 0 {
		return s.dialer.Dial(ctx, netip.Addr{}, remote, nil)
	}
	first := s.turn.Add(1)
	for i := range uint32(len(sources)) {
		c, err := s.dialer.Dial(ctx, sources[(first+i)%uint32(len(sources))], remote, nil)
		if !portsTaken(err) || int(i) == len(sources)-1 {
			return c, err
		}
	}
	panic("unreachable")
}

// relay confirms the connection and has it carried. No goroutine is its own from
// then on.
func (se *session) relay(ctx context.Context, extended bool) bool {
	s, far := se.server, se.far
	var reply convert.Message
	if extended {
		reply = convert.Reply(convert.ExtendedTCPHeader{Options: synAckOptions(far)})
	}
	const room = 32 // for the longest of these
	b, err := reply.Append(make([]byte, 0, room))
	if err == nil {
		err = se.say(ctx, b)
	}
	if err != nil {
		far.Reset()
		return false
	}
	s.Stats.Relayed.Add(1)
	s.Stats.Open.Add(1)
	se.account.carried()
	se.began = time.Now()
	se.memory = s.memory.Give(se.client)
	s.guard.Add(&se.ward, se.client, &se.pair.BToA)
	se.pair.A, se.pair.B, se.pair.KeepMapped = se.client, far, true
	se.pair.Owner = se
	s.running.Add(1)
	se.carried.Store(true)
	se.pair.Start()
	return true
}

// Pace implements relay.Owner.
func (se *session) Pace(n int) time.Duration {
	return max(se.server.share.hold(se.account, n), se.account.pace(n))
}

// Closing implements relay.Owner.
func (se *session) Closing() {}

// Closed implements relay.Owner.
func (se *session) Closed(err error) {
	s := se.server
	defer s.running.Done()
	s.guard.Remove(&se.ward)
	s.memory.Return(se.memory)
	s.release(se.account)
	s.remove(se)
	se.closed(err)
}

// closed counts what a relayed connection has carried.
func (se *session) closed(err error) {
	s := se.server
	s.Stats.Open.Add(-1)
	up, down := se.pair.AToB.Load(), se.pair.BToA.Load()
	s.Stats.Up.Add(up)
	s.Stats.Down.Add(down)
	se.account.up.Add(up)
	se.account.down.Add(down)
	s.records.write(s.config.Load().AddressLog, se, s.Log)
	if s.Log.Enabled(journal.Debug) {
		s.Log.Debug("closed", "client", se.account.name, "from", se.client.Remote, "server", se.remote,
			"mptcp", se.far.MPTCP, "up", up, "down", down, "error", err)
	}
}

// say sends a Convert message. A client in SYN_RECV would never get it.
func (se *session) say(ctx context.Context, b []byte) error {
	if err := se.client.WaitEstablished(ctx, se.server.requestTimeout); err != nil {
		return err
	}
	_, err := se.client.Write(b)
	return err
}

// refuse answers with an error, or resets where there is nothing to say. What
// strangers are told is limited; to a client, silence would be a broken
// converter.
func (se *session) refuse(ctx context.Context, r request, err error) {
	s, c := se.server, se.client
	var answer convert.Error
	var bad *convert.ProtocolError
	switch {
	case errors.As(err, &answer):
	case errors.As(err, &bad) && bad.Reply != nil && r.account == nil:
		answer = convert.Error{Code: convert.NotAuthorized} // and nothing else
	case errors.As(err, &bad) && bad.Reply != nil:
		answer = *bad.Reply
	default:
		s.Stats.Reset.Add(1)
		c.Reset()
		return
	}
	if r.account == nil && !s.strangers.mayAnswer(source(r.from)) {
		s.Stats.Shed.Add(1)
		c.Reset()
		return
	}
	s.Stats.refused(answer.Code)
	if r.account != nil {
		r.account.refuse(answer.Code.String())
	}
	if b, err := convert.Reply(answer).Append(nil); err == nil {
		se.end(ctx, r, b)
	}
}

// end says the last there is to say and lets the client read it and close first
// (RFC 8803 section 6.2.8): what it has sent meanwhile would otherwise turn
// into a reset that overtakes the answer.
func (se *session) end(ctx context.Context, r request, b []byte) {
	c := se.client
	if r.account != nil { // else the gate bounds them
		if !r.account.answer() {
			se.server.Stats.Shed.Add(1)
			c.Reset()
			return
		}
		defer r.account.answered()
	}
	se.confine(ctx)
	if se.say(ctx, b) != nil {
		c.Reset() // it may not be where it says: an end that waits for its answer would be sent again and again
		return
	}
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	io.CopyN(io.Discard, c, goodbyeBytes)
}

// requestError is what is wrong with a request that did not arrive in time.
func (s *Server) requestError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &convert.ProtocolError{Reason: fmt.Sprintf("no request within %v", s.requestTimeout),
			Reply: &convert.Error{Code: convert.MalformedMessage}}
	}
	return err
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
