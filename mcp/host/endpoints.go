// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"braid/transport/mptcp"
)

// most is how many endpoints the kernel has room for.
const most = 8

func ours(e mptcp.Endpoint) bool { return e.ID >= firstID && e.ID <= lastID }

// endpoints has each address signalled that is to be announced. Where somebody
// else has an endpoint for the address that does not signal it, as
// NetworkManager's do, ours takes its place, with its flags beside the signal.
func (h *Host) endpoints() error {
	want, err := h.announced()
	if err != nil {
		return err
	}
	have, err := mptcp.Endpoints()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range have {
		// One of ours that is not wanted any more, or was left by a killed one.
		// Beside another converter it may be that one's.
		if ours(e) && !slices.Contains(want, e.Addr) && h.mine(e.Addr) && !h.used(e.Addr) {
			errs = append(errs, h.withdraw(e))
		}
	}
	for _, a := range want {
		at := slices.IndexFunc(have, func(e mptcp.Endpoint) bool { return e.Addr == a })
		if at >= 0 && have[at].Flags&mptcp.FlagSignal != 0 {
			continue
		}
		e := mptcp.Endpoint{ID: freeID(have), Addr: a, Flags: mptcp.FlagSignal}
		if at >= 0 {
			other := have[at]
			if other.Flags&mptcp.FlagFullmesh != 0 {
				errs = append(errs, fmt.Errorf("%v is not announced: its endpoint %d is a fullmesh one, which cannot signal", a, other.ID))
				continue
			}
			if other.Flags&mptcp.FlagImplicit == 0 {
				e.Flags |= other.Flags
				e.Device = other.Device
				if err := h.replace(other); err != nil {
					errs = append(errs, err)
					continue
				}
			}
		}
		if err := mptcp.AddEndpoint(e); err != nil {
			errs = append(errs, err)
			continue
		}
		have = append(have, e)
		h.added = append(h.added, a)
		h.Log.Info("announcing", "address", a, "id", e.ID)
	}
	return errors.Join(errs...)
}

// mine says whether an endpoint with one of our ids is to be looked after by
// this converter.
func (h *Host) mine(a netip.Addr) bool { return h.alone || slices.Contains(h.added, a) }

// used says whether open connections may run over an address. Without its
// endpoint the kernel would close all their subflows there, the first ones, too
// (6.18). On an address that has gone they are dead already.
func (h *Host) used(a netip.Addr) bool {
	if h.Busy == nil || !h.Busy() {
		return false
	}
	local, err := IsLocal(a)
	return err == nil && local
}

// replace takes somebody's endpoint away, to be put back later.
func (h *Host) replace(e mptcp.Endpoint) error {
	err := h.save(func(o *originals) bool { o.Replaced = append(o.Replaced, e); return true })
	if err != nil {
		return err
	}
	return mptcp.DeleteEndpoint(e)
}

// withdraw deletes an endpoint of ours, and puts back what it has replaced.
func (h *Host) withdraw(e mptcp.Endpoint) error {
	if err := mptcp.DeleteEndpoint(e); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	h.Log.Info("not announcing any more", "address", e.Addr)
	var back []mptcp.Endpoint
	err := h.save(func(o *originals) bool {
		o.Replaced = slices.DeleteFunc(o.Replaced, func(r mptcp.Endpoint) bool {
			if r.Addr == e.Addr {
				back = append(back, r)
			}
			return r.Addr == e.Addr
		})
		return len(back) > 0
	})
	for _, r := range back {
		err = errors.Join(err, mptcp.AddEndpoint(r))
	}
	return err
}

func freeID(have []mptcp.Endpoint) uint8 {
	for id := uint8(firstID); id <= lastID; id++ {
		if !slices.ContainsFunc(have, func(e mptcp.Endpoint) bool { return e.ID == id }) {
			return id
		}
	}
	return 0 // the kernel's choice; it has no room for so many in any case
}

// announced are the configured addresses, else those that clients could reach
// at the interfaces with a default route: no private, temporary, deprecated or
// tentative ones.
func (h *Host) announced() ([]netip.Addr, error) {
	if a := h.Announce(); len(a) > 0 {
		return a, nil
	}
	public, err := PublicAddrs()
	return public[:min(len(public), most)], err
}

// PublicAddrs are the addresses of this host at which the Internet can reach
// it, IPv4 first.
func PublicAddrs() (list []netip.Addr, err error) {
	links := make(map[int]bool)
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteList(nil, f)
		if err != nil {
			return nil, fmt.Errorf("reading routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
				continue
			}
			links[r.LinkIndex] = true
			for _, hop := range r.MultiPath {
				links[hop.LinkIndex] = true
			}
		}
	}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		addrs, err := netlink.AddrList(nil, f)
		if err != nil {
			return nil, fmt.Errorf("reading own addresses: %w", err)
		}
		unfit := unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
		if f == unix.AF_INET6 {
			unfit |= unix.IFA_F_TEMPORARY // the bit means secondary for IPv4
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			// Without a default route, in a closed network, any interface will do.
			if ip = ip.Unmap(); ok && (links[a.LinkIndex] || len(links) == 0) && a.Flags&unfit == 0 && public(ip) && !slices.Contains(list, ip) {
				list = append(list, ip)
			}
		}
	}
	return list, nil
}

var (
	carrier     = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	assignments = netip.MustParsePrefix("192.0.0.0/24")  // RFC 6890: translators have theirs here
)

func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrier.Contains(a) && !assignments.Contains(a)
}
