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
	"braid/transport/relay"
)

const (
	// patience is how long one attempt runs alone before the next one starts
	// beside it.
	patience = time.Second
	// dialTimeout bounds all attempts together.
	dialTimeout = 20 * time.Second
	// joinsAfter is when the subflows of a direct connection are counted.
	joinsAfter = 2 * time.Second
)

// reached is a far side that has been reached.
type reached struct {
	conn    *mptcp.Conn
	attempt path.Attempt
	greeted bool // the converter's answer has been read
	err     error
}

// final is the server's own refusal: another way would end there too.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// errMute is a server that was expected to speak MPTCP.
var errMute = errors.New("the server does not speak MPTCP any more")

// reach makes the attempts in order. An attempt that has not come to a result
// within a second gets the next one beside it; the first to succeed is it.
// With certain, a converter's answer is waited for in any case.
func (p *Proxy) reach(ctx context.Context, f path.Flow, certain bool) (reached, error) {
	n := p.network.Load()
	if n == nil {
		return reached{}, errors.New("no network yet")
	}
	d := n.Decide(f, p.Memory.Lookup(f.Dest))
	attempts := d.Attempts()
	if len(attempts) == 0 {
		return reached{}, errors.New(d.Explain())
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	resultC := make(chan reached, len(attempts))
	started, ended := 0, 0
	start := func() {
		if started < len(attempts) {
			a := attempts[started]
			started++
			go func() { resultC <- p.try(ctx, a, f, certain) }()
		}
	}
	start()
	var errs []error
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			start()
		case r := <-resultC:
			ended++
			if r.err == nil {
				go drop(resultC, started-ended)
				return r, nil
			}
			errs = append(errs, r.err)
			if errors.As(r.err, new(final)) {
				go drop(resultC, started-ended)
				return reached{}, r.err
			}
			if start(); ended == started {
				return reached{}, errors.Join(errs...)
			}
		}
		timer.Reset(patience)
	}
}

// drop resets the connections of attempts that came too late.
func drop(resultC <-chan reached, n int) {
	for range n {
		if r := <-resultC; r.err == nil {
			relay.Reset(r.conn.TCPConn)
		}
	}
}

func (p *Proxy) try(ctx context.Context, a path.Attempt, f path.Flow, certain bool) reached {
	r := reached{attempt: a}
	if a.Path == config.PathConvert {
		r.conn, r.greeted, r.err = p.tryConvert(ctx, a, f, certain)
	} else {
		r.conn, r.err = p.tryDirect(ctx, a, f)
	}
	return r
}

func (p *Proxy) tryDirect(ctx context.Context, a path.Attempt, f path.Flow) (*mptcp.Conn, error) {
	c, err := p.dialer.Dial(ctx, a.Source, f.Dest, nil)
	if err != nil {
		return nil, err
	}
	p.Memory.LearnMPTCP(f.Dest, c.MPTCP)
	if a.MPTCP && !c.MPTCP {
		relay.Reset(c.TCPConn)
		return nil, errMute
	}
	return c, nil
}

// tryConvert has a converter connect. The answer of one that is known to serve
// us is left to be read while data flows already; that of another is waited
// for, so that there is still a choice.
func (p *Proxy) tryConvert(ctx context.Context, a path.Attempt, f path.Flow, certain bool) (c *mptcp.Conn, greeted bool, err error) {
	m, err := convert.Request(convert.NewConnect(f.Dest, convert.KindMPTCP), a.Converter.Cookie).Append(nil)
	if err != nil {
		return nil, false, fmt.Errorf("asking for %v: %w", f.Dest, err)
	}
	c, err = p.dialer.Dial(ctx, a.Source, a.Peer, m)
	if err != nil {
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			p.Doubt(a.Converter.Name)
		}
		return nil, false, err
	}
	if a.Converter.State == path.ConverterUp && !certain {
		return c, false, nil
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	err = p.greet(f.Dest, a, c)
	if !stop() || err != nil {
		relay.Reset(c.TCPConn)
		return nil, false, errors.Join(err, ctx.Err())
	}
	return c, true, nil
}

// greet reads the converter's answer, the first thing on the stream, and
// learns from it.
func (p *Proxy) greet(dest netip.AddrPort, a path.Attempt, far *mptcp.Conn) error {
	m, err := convert.Read(far)
	if err != nil {
		p.Doubt(a.Converter.Name)
		return fmt.Errorf("reading the answer of converter %s: %w", a.Converter.Name, err)
	}
	if refused, ok := convert.Find[convert.Error](m); ok {
		p.stats.Refused.Add(1)
		switch refused.Code {
		case convert.ConnectionReset, convert.DestinationUnreachable, convert.NetworkFailure:
			return final{refused}
		}
		p.Doubt(a.Converter.Name)
		return refused
	}
	if h, ok := convert.Find[convert.ExtendedTCPHeader](m); ok {
		p.Memory.LearnMPTCP(dest, h.Options.MPCapable())
	}
	return nil
}

// watchJoins counts, after a while, the subflows of a direct connection. Fewer
// than there are WANs for say that the server takes no second one.
func (p *Proxy) watchJoins(dest netip.AddrPort, a path.Attempt, far *mptcp.Conn) (stop func()) {
	if a.Path != config.PathDirect || !far.MPTCP || len(p.network.Load().Expected(a)) < 2 {
		return func() {}
	}
	timer := time.AfterFunc(joinsAfter, func() {
		flows, err := far.Subflows()
		if err != nil {
			return // it has just been closed
		}
		joined := slices.DeleteFunc(flows, func(f mptcp.Subflow) bool { return f.State == mptcp.StateSYNSent })
		p.Memory.LearnJoins(dest, len(joined) >= len(p.network.Load().Expected(a)))
	})
	return func() { timer.Stop() }
}
