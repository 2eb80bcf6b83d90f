// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"braid/test/link"
)

var (
	all4 = netip.MustParsePrefix("0.0.0.0/0")
	all6 = netip.MustParsePrefix("::/0")
)

// A WAN is an access network of a World. Addresses that it does not have are zero.
type WAN struct {
	Access
	Router *Node // of the ISP or carrier

	Gateway4, Gateway6 netip.Prefix // address of the gateway, with its prefix length
	Router4, Router6   netip.Addr
	// Public4 is what the world sees the gateway's IPv4 connections come from.
	Public4 netip.Addr
	// RoutesLAN: the LAN's IPv6 prefix is routed here.
	RoutesLAN bool

	transit4, transit6 netip.Addr // of the router towards core
	core4, core6       netip.Addr // of core towards the router
	metric             int
	gateway            *Node
}

// number gives the i-th access network its addresses; it is the n4-th of its V4 and the n6-th
// of its kind.
func number(a Access, i, n4, n6 int) *WAN {
	w := &WAN{
		Access:   a,
		metric:   10 * (i + 1),
		core4:    netip.AddrFrom4([4]byte{10, 255, byte(i), 1}),
		transit4: netip.AddrFrom4([4]byte{10, 255, byte(i), 2}),
		core6:    netip.MustParseAddr(fmt.Sprintf("fd00:255:0:%x::1", i)),
		transit6: netip.MustParseAddr(fmt.Sprintf("fd00:255:0:%x::2", i)),
	}
	net4 := [4]byte{198, 18, byte(n4), 0}
	switch {
	case a.V4 == Private:
		net4 = [4]byte{100, 64, byte(n4), 0}
	case n4 == 0:
		net4 = [4]byte{198, 51, 100, 0}
	}
	if a.V4 != None {
		w.Router4 = netip.AddrFrom4(net4).Next()
		w.Gateway4 = netip.PrefixFrom(w.Router4.Next(), 24)
		w.Public4 = w.Gateway4.Addr()
	}
	if a.Inside4.IsValid() {
		w.Router4, w.Gateway4 = a.Inside4.Masked().Addr().Next(), a.Inside4
	}
	if a.V4 == Private {
		w.Public4 = netip.AddrFrom4([4]byte{203, 0, 113, byte(n4 + 1)})
	}
	if a.NAT64.IsValid() {
		w.Public4 = nat64Public(n4)
	}
	if a.V6 {
		digit := map[Kind]string{Fixed: "f", Cellular: "c"}[a.Kind]
		w.Router6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:%s:%x::1", digit, n6))
		w.Gateway6 = netip.PrefixFrom(w.Router6.Next(), 64)
	}
	return w
}

// SetDown sets the gateway's device down, which costs it its routes and IPv6 addresses, as it
// does everywhere.
func (w *WAN) SetDown() error {
	l, err := w.gateway.nl.LinkByName(w.Name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", w.Name, err)
	}
	if err := w.gateway.nl.LinkSetDown(l); err != nil {
		return fmt.Errorf("setting %s down: %w", w.Name, err)
	}
	return nil
}

// SetUp sets the gateway's device up, with addresses and default routes, as netifd would.
func (w *WAN) SetUp() error {
	var errs []error
	if w.V4 != None {
		errs = append(errs,
			w.gateway.up(w.Name, w.Gateway4),
			w.gateway.route(all4, w.Router4, w.Name, w.metric))
	}
	if w.V6 {
		errs = append(errs,
			w.gateway.up(w.Name, w.Gateway6),
			w.gateway.route(all6, w.Router6, w.Name, w.metric))
	}
	return errors.Join(errs...)
}

// connect lays the line from the gateway to the router, of which the router's end is called gw.
func (w *World) connect(wan *WAN) (err error) {
	switch {
	case wan.Switch != "":
		return w.plug(wan)
	case w.veth:
		return veth(w.Gateway, wan.Name, wan.Router, "gw")
	}
	w.links[wan.Name], err = emulated(w.Gateway, wan.Name, wan.Router, "gw", wan.Up, wan.Down)
	return err
}

// plug wires both ends of a line to its switch, a bridge that a node of its own holds.
func (w *World) plug(wan *WAN) (err error) {
	s := w.switches[wan.Switch]
	if s == nil {
		if s, err = w.node(wan.Switch); err != nil {
			return err
		}
		if err := s.bridge("switch"); err != nil {
			return err
		}
		w.switches[wan.Switch] = s
	}
	return errors.Join(
		w.Replug(wan),
		veth(wan.Router, "gw", s, wan.Name+"-far"),
		s.join("switch", wan.Name+"-far"))
}

// Replug gives the gateway a new device for an access network at a switch, whose old one has been
// deleted. It is down, and has nothing yet.
func (w *World) Replug(wan *WAN) error {
	s := w.switches[wan.Switch]
	return errors.Join(veth(w.Gateway, wan.Name, s, wan.Name), s.join("switch", wan.Name))
}

// emulated connects two nodes by an emulated link.
func emulated(a *Node, deviceA string, b *Node, deviceB string, ab, ba link.Spec) (*link.Link, error) {
	endA, err := openIn(a, deviceA)
	if err != nil {
		return nil, err
	}
	endB, err := openIn(b, deviceB)
	if err != nil {
		return nil, errors.Join(err, endA.Close())
	}
	l, err := link.New(endA, endB, ab, ba)
	if err != nil {
		return nil, errors.Join(err, endA.Close(), endB.Close())
	}
	return l, nil
}

func openIn(n *Node, device string) (e *link.End, err error) {
	err = n.Do(func() error {
		e, err = link.Open(device)
		return err
	})
	return e, err
}
