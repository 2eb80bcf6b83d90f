// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IsLocal says whether this host itself would take what is sent to an address:
// by the routing table at this moment, which knows of more than the addresses
// of interfaces (AnyIP), and of broadcast.
func IsLocal(a netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false, nil // nobody takes it, as connect will find
	case err != nil:
		return false, err
	}
	for _, r := range routes {
		switch r.Type {
		case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
			return true, nil
		}
	}
	return false, nil
}
