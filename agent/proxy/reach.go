// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"braid/agent/config"
	"braid/agent/path"
	"braid/transport/convert"
	"braid/transport/mptcp"
	"braid/transport/proof"
)

// joinsAfter is when the subflows of a direct connection are counted.
const joinsAfter = 2 * time.Second

// reached is a far side.
type reached struct {
	conn    *mptcp.Conn
	attempt path.Attempt
	sent    int    // bytes of the LAN host's opening that it has got
	rest    []byte // of the opening
}

var (
	// errHostGone is a host that has given its connection up while its far side was
	// searched for.
	errHostGone = errors.New("reading from the LAN")
	// errMute is a server that was expected to speak MPTCP.
	errMute = errors.New("the server does not speak MPTCP any more")
	// errSilent is a converter that was reached and said nothing for long.
	errSilent = errors.New("no answer for the server")
	// errOvertaken is a converter that had not been reached by one way when a
	// later attempt was through.
	errOvertaken = errors.New("a later attempt was through first")
	// errPlain is one that was reached by a way where MPTCP arrived before.
	errPlain = errors.New("MPTCP does not arrive")
)

// farSide is the one that waits for a LAN connection, or a new one.
func (p *Proxy) farSide(ctx context.Context, c *connection) (reached, error) {
	class, err := c.lan.AnswerInClass()
	if err != nil {
		p.Log.Debug("not in its class", "src", c.src, "dst", c.dest, "error", err)
	}
	if r := p.held.take(flowKey{c.src, c.dest}); r != nil {
		p.crowd.add(c.src.Addr(), -p.crowd.waiting()) // it is counted twice, as what was held and as what is taken
		return *r, nil
	}
	r, err := p.newRace(ctx, path.Flow{Src: c.src.Addr(), Dest: c.dest, Path: c.wanted, Class: class})
	if err != nil {
		return reached{}, err
	}
	if !p.table.searched(ctx, c, &r.ctx) {
		return reached{}, ctx.Err()
	}
	r.opening.listen(c.lan, &r.ctx)
	far, err := r.run()
	r.ctx.end(context.Canceled) // who is late is not to get what the host has said
	first, gone := r.opening.settle()
	switch {
	case gone != nil:
		if err == nil {
			far.conn.Reset()
		}
		return reached{}, fmt.Errorf("%w: %w", errHostGone, gone)
	case err != nil:
		return reached{}, err
	}
	far.rest = first[far.sent:]
	return far, nil
}

// reach finds a far side for a flow whose host cannot send yet.
func (p *Proxy) reach(ctx context.Context, f path.Flow) (reached, error) {
	r, err := p.newRace(ctx, f)
	if err != nil {
		return reached{}, err
	}
	defer r.ctx.end(context.Canceled)
	defer context.AfterFunc(ctx, func() { r.ctx.end(ctx.Err()) })()
	return r.run()
}

// try makes an attempt.
func (r *race) try(attempt int) event {
	e, a := event{attempt: attempt}, r.attempt(attempt)
	if isDirect(a) {
		e.conn, e.err = r.p.tryDirect(&r.ctx, a, r.flow)
		return e
	}
	for again := false; ; again = true {
		var request proof.Request
		e.conn, request, e.err = r.p.dialConverter(&r.ctx, a, r.flow)
		if e.err != nil {
			return e
		}
		r.eventC <- event{attempt: attempt, conn: e.conn, connected: true}
		e.sent, e.err = r.await(attempt, e.conn, request)
		// A converter that was restarted wants the proof with a new ticket, which
		// comes with its answer.
		if again || !isCode(e.err, convert.MissingCookie) {
			return e
		}
	}
}

func isCode(err error, code convert.ErrorCode) bool {
	if err == nil {
		return false
	}
	var answer convert.Error
	return errors.As(err, &answer) && answer.Code == code
}

func (p *Proxy) tryDirect(ctx context.Context, a *path.Attempt, f path.Flow) (*mptcp.Conn, error) {
	c, err := p.dialer.DialClass(ctx, f.Class, a.Source, f.Dest, nil)
	if err != nil {
		return nil, err
	}
	if a.OnPath != "" { // it may be that converter which has answered
		p.Memory.LearnOnPath(f.Dest, a.OnPath, c.MPTCP)
	} else {
		p.Memory.LearnMPTCP(f.Dest, c.MPTCP)
	}
	if a.MPTCP && !c.MPTCP {
		c.Reset()
		return nil, errMute
	}
	return c, nil
}

// dialConverter asks a converter for a connection.
func (p *Proxy) dialConverter(ctx context.Context, a *path.Attempt, f path.Flow) (c *mptcp.Conn, request proof.Request, err error) {
	credentials := proof.Credentials{Converter: a.Converter.Name, Key: a.Converter.Key, Cookie: a.Converter.Cookie}
	m := convert.Request(convert.NewConnect(f.Dest, convert.KindMPTCP), nil)
	c, err = p.dialer.DialEach(ctx, f.Class, a.Source, a.Peer, func() (_ []byte, err error) {
		request, err = p.Wallet.Request(credentials, m)
		return request.Bytes, err
	})
	if err != nil && (ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded)) {
		p.doubt(a.Converter.Name, a.Way, err)
	}
	if err == nil && !c.MPTCP && a.Converter.Answers[a.Way].MPTCP {
		p.doubt(a.Converter.Name, a.Way, errPlain)
	}
	return c, request, err
}

// await waits for a converter's answer. What the LAN host says meanwhile is on
// its way already.
func (r *race) await(attempt int, c *mptcp.Conn, request proof.Request) (sent int, err error) {
	if !r.ctx.read(attempt, c) { // another far side may be getting what the host says
		c.Reset()
		return 0, r.ctx.Err()
	}
	r.opening.feed(attempt, c)
	err = r.p.greet(&r.ctx, r.flow.Dest, c, r.attempt(attempt), request)
	sent = r.opening.stop(attempt)
	if !r.ctx.done(attempt) || err != nil {
		c.Reset()
		return 0, errors.Join(err, r.ctx.Err())
	}
	return sent, nil
}

// greet reads the converter's answer, the first thing on the stream, and
// learns from it.
func (p *Proxy) greet(ctx context.Context, dest netip.AddrPort, c *mptcp.Conn, a *path.Attempt, request proof.Request) error {
	name := a.Converter.Name
	b, err := convert.Receive(c)
	if err == nil {
		err = request.Hear(b)
	}
	var m convert.Message
	if err == nil {
		m, _, err = convert.Parse(b)
	}
	if err != nil {
		if ctx.Err() == nil {
			p.doubt(name, a.Way, err)
		}
		return fmt.Errorf("reading the answer of converter %s: %w", name, err)
	}
	if refused, ok := convert.Find[convert.Error](m); ok {
		if refused.Code == convert.MissingCookie && len(a.Converter.Key) > 0 {
			return refused // and the ticket in it is in the wallet
		}
		p.stats.Refused.Add(1)
		switch faultOf(a, refused) {
		case path.FaultNone, path.FaultNoRoute, path.FaultProhibited: // which may hold for more than this server
			p.Doubt(name, a.Way, refused)
		}
		return refused
	}
	if h, ok := convert.Find[convert.ExtendedTCPHeader](m); ok {
		p.Memory.LearnMPTCP(dest, h.Options.MPCapable())
	}
	return nil
}

// watchJoins looks, after a while, from which WANs a direct connection has
// subflows. If one is missing, the server takes no second one; or, where that
// WAN does not reach it, nobody lends it an address.
func (p *Proxy) watchJoins(dest netip.AddrPort, a path.Attempt, far *mptcp.Conn) (stop func()) {
	if a.Path != config.PathDirect || !far.MPTCP || len(p.network.Load().Expected(a)) < 2 {
		return func() {}
	}
	timer := time.AfterFunc(joinsAfter, func() {
		flows, err := far.Subflows()
		if err != nil {
			return // it has just been closed
		}
		p.learnJoins(dest, a, slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State == mptcp.StateSYNSent }))
	})
	return func() { timer.Stop() }
}

func (p *Proxy) learnJoins(dest netip.AddrPort, a path.Attempt, flows []mptcp.Subflow) {
	var heard uint64
	for _, f := range flows {
		heard += f.BytesReceived
	}
	n := p.network.Load()
	second, joined := false, true
	for _, x := range n.Expected(a) {
		if x.WAN == a.WAN {
			continue
		}
		i := slices.IndexFunc(flows, func(f mptcp.Subflow) bool { return n.Starts(x.WAN, f.Local.Addr()) })
		switch there := i >= 0; {
		case there && flows[i].Remote != dest:
			p.Memory.LearnLent(dest, a.OnPath, flows[i].Remote.Addr())
		case there && a.OnPath != "":
			p.Memory.LearnMPTCP(dest, true) // none but the server itself answers there
			second = true
		case x.Remote.IsValid():
			second, joined = true, joined && there
		case heard > 0: // addresses are announced with what the server says
			p.Memory.LearnLent(dest, a.OnPath, netip.Addr{})
		}
	}
	if second {
		p.Memory.LearnJoins(dest, joined)
	}
}
