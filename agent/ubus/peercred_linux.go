// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"fmt"
	"net"
	"syscall"
)

// peerUID is the user who connected (SO_PEERCRED, unix(7)).
func peerUID(nc *net.UnixConn) (uint32, error) {
	rc, err := nc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reading peer credentials: %w", err)
	}
	var cred *syscall.Ucred
	var cerr error
	err = rc.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("reading peer credentials: %w", err)
	}
	return cred.Uid, nil
}
