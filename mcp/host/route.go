// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// asker is a netlink socket that stays: each connection asks, and a socket of its
// own would be 8 system calls more.
var asker struct {
	mu     sync.Mutex
	handle *netlink.Handle
}

func handle() (h *netlink.Handle, err error) {
	asker.mu.Lock()
	defer asker.mu.Unlock()
	if asker.handle == nil {
		asker.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	return asker.handle, err
}

// IsLocal says whether this host itself would take what is sent to an address:
// by the routing table at this moment, which knows of more than the addresses
// of interfaces (AnyIP), and of broadcast.
func IsLocal(a netip.Addr) (bool, error) {
	h, err := handle()
	if err != nil {
		return false, err
	}
	routes, err := h.RouteGet(a.AsSlice())
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
