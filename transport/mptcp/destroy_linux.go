// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Destroy ends one subflow the way an arriving reset would, so that what was
// sent over it and not acknowledged goes over the others at once. It needs
// CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY (kernel 4.5), which Debian has and
// OpenWrt has not: the error then is EOPNOTSUPP. A subflow that is no more is
// no error.
func Destroy(f Subflow) error {
	const sockDestroy = 21
	id := make([]byte, 56) // struct inet_diag_req_v2
	id[0] = unix.AF_INET6
	local, remote := f.Local.Addr().AsSlice(), f.Remote.Addr().AsSlice()
	if f.Local.Addr().Is4() {
		id[0] = unix.AF_INET // v4-mapped sockets are found by it too
	}
	id[1] = unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(id[8:], f.Local.Port())
	binary.BigEndian.PutUint16(id[10:], f.Remote.Port())
	copy(id[12:28], local)
	copy(id[28:44], remote)
	native.PutUint64(id[48:], ^uint64(0)) // no cookie
	r := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
	r.AddRawData(id)
	_, err := r.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("destroying subflow %v to %v: %w", f.Local, f.Remote, err)
	}
	return nil
}
