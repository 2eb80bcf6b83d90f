// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"braid/transport/mptcp"
)

// mptcpSubflows is what one connection may have beside its first subflow;
// kernels up to 6.18 allow no more.
const mptcpSubflows = 8

// fastOpen are the bits of net.ipv4.tcp_fastopen for client and server.
const fastOpen = 3

// PrepareHost makes the kernel of this host fit for a converter: room for the
// clients' subflows, TCP Fast Open for listeners, and the converter's
// addresses signalled to clients (ADD_ADDR, RFC 8684 section 3.4.1), so that
// one that has only IPv6 on one of its lines can add it to a connection made
// over IPv4. What was changed is put back by undo, which is never nil.
func (s *Server) PrepareHost() (undo func(), err error) {
	var steps []func()
	undo = func() {
		for i := len(steps) - 1; i >= 0; i-- {
			steps[i]()
		}
	}
	old, err := mptcp.GetLimits()
	if err != nil {
		return undo, err
	}
	if old.Subflows < mptcpSubflows {
		limits := old
		limits.Subflows = mptcpSubflows
		if err := mptcp.SetLimits(limits); err != nil {
			return undo, err
		}
		steps = append(steps, func() { mptcp.SetLimits(old) })
	}
	// Without it connections take a round trip more, and nothing else.
	reset, fastOpenErr := enableFastOpen()
	if fastOpenErr == nil {
		steps = append(steps, reset)
	}
	eps, err := mptcp.Endpoints()
	if err != nil {
		return undo, errors.Join(fastOpenErr, err)
	}
	addrs, err := s.announced()
	if err != nil {
		return undo, errors.Join(fastOpenErr, err)
	}
	for _, a := range addrs {
		if e, ok := find(eps, a); ok {
			s.Log.Info("address is an MPTCP endpoint already", "address", a, "id", e.ID)
			continue
		}
		e := mptcp.Endpoint{Addr: a, Flags: mptcp.FlagSignal}
		if err := mptcp.AddEndpoint(e); err != nil {
			return undo, errors.Join(fastOpenErr, err)
		}
		s.Log.Info("announcing", "address", a)
		steps = append(steps, func() {
			if eps, err := mptcp.Endpoints(); err == nil {
				if e, ok := find(eps, a); ok {
					mptcp.DeleteEndpoint(e)
				}
			}
		})
	}
	return undo, fastOpenErr
}

func find(eps []mptcp.Endpoint, a netip.Addr) (mptcp.Endpoint, bool) {
	for _, e := range eps {
		if e.Addr == a {
			return e, true
		}
	}
	return mptcp.Endpoint{}, false
}

// announced are the configured addresses, else the first of each family that
// clients could reach.
func (s *Server) announced() ([]netip.Addr, error) {
	if len(s.Config.Announce) > 0 {
		return s.Config.Announce, nil
	}
	addrs, err := interfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("reading own addresses: %w", err)
	}
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		switch {
		case !a.IsGlobalUnicast() || containsAddr(forbidden, a):
		case a.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
	}
	return append(v4[:min(len(v4), 1)], v6[:min(len(v6), 1)]...), nil
}

func enableFastOpen() (undo func(), err error) {
	const path = "/proc/sys/net/ipv4/tcp_fastopen"
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(old)), 0, 32)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if v&fastOpen == fastOpen {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(strconv.FormatUint(v|fastOpen, 10)), 0); err != nil {
		return nil, err
	}
	return func() { os.WriteFile(path, old, 0) }, nil
}
