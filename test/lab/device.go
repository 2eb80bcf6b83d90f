// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// up sets a device up and gives it addresses, usable at once.
func (n *Node) up(device string, addresses ...netip.Prefix) error {
	l, err := n.nl.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", device, n.Name, err)
	}
	if err := n.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("setting %s in %s up: %w", device, n.Name, err)
	}
	for _, p := range addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := n.nl.AddrReplace(l, a); err != nil {
			return fmt.Errorf("adding %v to %s in %s: %w", p, device, n.Name, err)
		}
	}
	return nil
}

// route adds a route to a prefix, or replaces that of the same metric. It leads nowhere else
// than through the device on whose prefix the router is.
func (n *Node) route(to netip.Prefix, router netip.Addr, device string, metric int) error {
	l, err := n.nl.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", device, n.Name, err)
	}
	r := &netlink.Route{
		Dst: ipNet(to), Gw: router.AsSlice(),
		LinkIndex: l.Attrs().Index, Priority: metric, Protocol: unix.RTPROT_STATIC,
	}
	if err := n.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("adding route to %v in %s: %w", to, n.Name, err)
	}
	return nil
}

// routes adds routes of metric 0 to prefixes of the router's family.
func (n *Node) routes(router netip.Addr, device string, to ...netip.Prefix) error {
	var errs []error
	for _, p := range to {
		errs = append(errs, n.route(p, router, device, 0))
	}
	return errors.Join(errs...)
}

// veth connects two nodes.
func veth(a *Node, deviceA string, b *Node, deviceB string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = deviceA
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: deviceB, PeerNamespace: netlink.NsFd(b.ns)}
	if err := a.nl.LinkAdd(v); err != nil {
		return fmt.Errorf("connecting %s with %s: %w", a.Name, b.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
