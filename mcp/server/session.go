// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"braid/transport/convert"
	"braid/transport/mptcp"
	"braid/transport/relay"
)

// Limits of a connection that is not relayed yet.
const (
	requestTimeout = 10 * time.Second // from accept to the end of the Convert message
	dialTimeout    = 20 * time.Second // from there to the server's SYN+ACK
	goodbyeTimeout = 5 * time.Second  // after an error the client is to close
	goodbyeBytes   = 256 << 10
)

// serve is the life of one client connection.
func (s *Server) serve(ctx context.Context, c *mptcp.Conn) {
	src := source(c.Remote.Addr())
	s.Stats.Accepted.Add(1)
	if !c.MPTCP {
		s.Stats.AcceptedTCP.Add(1)
	}
	if !s.gate.enter(src) {
		s.Stats.Shed.Add(1)
		relay.Reset(c.TCPConn)
		return
	}
	c.SetReadDeadline(time.Now().Add(s.requestTimeout))
	m, err := convert.Read(c)
	s.gate.leave(src)
	if err != nil {
		s.refuse(ctx, c, src, s.requestError(c, err))
		return
	}
	cl, release, err := s.clients.admit(c.Remote.Addr(), m)
	if err != nil {
		s.refuse(ctx, c, src, err)
		return
	}
	defer release()
	if err := m.CheckRequest(); err != nil {
		s.refuse(ctx, c, src, err)
		return
	}
	c.SetReadDeadline(time.Time{})
	connect, ok := convert.Find[convert.Connect](m)
	if !ok { // then it is Info
		s.say(ctx, c, s.info(ctx, m))
		goodbye(c)
		return
	}
	server, err := s.connect(ctx, connect)
	if err != nil {
		s.Log.Debug("refusing", "client", cl, "server", connect.Remote, "error", err)
		s.refuse(ctx, c, src, err)
		return
	}
	s.relay(ctx, c, server, connect, cl)
}

// connect opens the connection to the server, MPTCP if it speaks it.
func (s *Server) connect(ctx context.Context, connect convert.Connect) (*mptcp.Conn, error) {
	if kinds := connect.Options.Unsupported(convert.KindMPTCP); len(kinds) > 0 {
		return nil, convert.Error{Code: convert.UnsupportedTCPOption, Value: kinds}
	}
	if err := s.allowed(connect.Remote.Addr()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.dialTimeout)
	defer cancel()
	server, err := s.dialer.Dial(ctx, netip.Addr{}, connect.Remote, nil)
	if err != nil {
		return nil, dialError(err)
	}
	return server, nil
}

// relay confirms the connection and carries it.
func (s *Server) relay(ctx context.Context, c, server *mptcp.Conn, connect convert.Connect, client string) {
	defer server.Close()
	var reply convert.Message
	if connect.Extended() {
		reply = convert.Reply(convert.ExtendedTCPHeader{Options: synAckOptions(server)})
	}
	if err := s.say(ctx, c, reply); err != nil {
		relay.Reset(server.TCPConn)
		return
	}
	s.Stats.Relayed.Add(1)
	s.Stats.Open.Add(1)
	p := relay.Pair{A: c.TCPConn, B: server.TCPConn}
	unguard := s.guard.Add(c, &p.BToA)
	// The server's too: with the client half-closed, only that is still read.
	stop := context.AfterFunc(ctx, func() { relay.Reset(server.TCPConn) })
	err := p.Run()
	stop()
	unguard()
	s.Stats.Open.Add(-1)
	up, down := p.AToB.Load(), p.BToA.Load()
	s.Stats.Up.Add(up)
	s.Stats.Down.Add(down)
	s.Log.Debug("closed", "client", client, "from", c.Remote, "server", connect.Remote,
		"mptcp", server.MPTCP, "up", up, "down", down, "error", err)
}

// say sends a Convert message. A client in SYN_RECV would never get it.
func (s *Server) say(ctx context.Context, c *mptcp.Conn, m convert.Message) error {
	b, err := m.Append(nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	if err := c.WaitEstablished(ctx); err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// refuse answers with an error, or resets where there is nothing to say.
func (s *Server) refuse(ctx context.Context, c *mptcp.Conn, src netip.Prefix, err error) {
	var answer convert.Error
	var bad *convert.ProtocolError
	switch {
	case errors.As(err, &answer):
	case errors.As(err, &bad) && bad.Reply != nil:
		answer = *bad.Reply
	default:
		s.Stats.Reset.Add(1)
		relay.Reset(c.TCPConn)
		return
	}
	if !s.gate.mayAnswer(src) {
		s.Stats.Shed.Add(1)
		relay.Reset(c.TCPConn)
		return
	}
	s.Stats.refused(answer.Code)
	if s.say(ctx, c, convert.Reply(answer)) == nil {
		goodbye(c)
	}
}

// goodbye lets the client read the answer and close first (RFC 8803 section
// 6.2.8): what it has sent meanwhile would otherwise turn into a reset that
// overtakes the answer.
func goodbye(c *mptcp.Conn) {
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	io.CopyN(io.Discard, c, goodbyeBytes)
}

// requestError is what a client gets whose request is broken or did not
// arrive in time. A stranger is not told what was wrong with it.
func (s *Server) requestError(c *mptcp.Conn, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &convert.ProtocolError{Reason: fmt.Sprintf("no request within %v", s.requestTimeout),
			Reply: &convert.Error{Code: convert.MalformedMessage}}
	}
	var bad *convert.ProtocolError
	if errors.As(err, &bad) && bad.Reply != nil && s.clients.find(c.Remote.Addr(), convert.Cookie{}) < 0 {
		return convert.Error{Code: convert.NotAuthorized}
	}
	return err
}

// icmpHostUnreachable is a code of ICMP's Destination Unreachable (RFC 792).
const icmpHostUnreachable = 1

// dialError maps what the kernel says of a server to what a client is told
// (RFC 8803 section 6.2.8).
func dialError(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return convert.Error{Code: convert.ConnectionReset}
	case errors.Is(err, syscall.ENETUNREACH):
		return convert.Error{Code: convert.DestinationUnreachable, Value: []byte{convert.NoRoute}}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return convert.Error{Code: convert.DestinationUnreachable, Value: []byte{icmpHostUnreachable}}
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded):
		return convert.RetryError(convert.NetworkFailure, 0)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENOBUFS):
		return convert.RetryError(convert.ResourceExceeded, time.Second)
	}
	return convert.RetryError(convert.NetworkFailure, time.Second)
}

// synAckOptions tells the options of a server's SYN+ACK as far as the kernel
// shows them (RFC 8803 section 6.2.6). The values of MP_CAPABLE's key and of
// the timestamps are not to be had: the former is given without a key, the
// latter is left out.
func synAckOptions(c *mptcp.Conn) convert.Options {
	var o convert.Options
	if ti, err := c.TCPInfo(); err == nil {
		o = append(o, convert.KindMSS, 4, byte(ti.SndMSS>>8), byte(ti.SndMSS))
		if ti.Options&mptcp.TCPOptSACK != 0 {
			o = append(o, convert.KindSACKPermitted, 2)
		}
		if ti.Options&mptcp.TCPOptWindowScale != 0 {
			o = append(o, convert.KindWindowScale, 3, ti.SndWindowScale)
		}
	}
	if c.MPTCP {
		const mpCapableV1 = 0<<4 | 1 // subtype, version (RFC 8684 section 3.1)
		o = append(o, convert.KindMPTCP, 4, mpCapableV1, 0)
	}
	return o
}
