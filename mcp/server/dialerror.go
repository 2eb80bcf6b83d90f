// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"syscall"
	"time"

	"braid/transport/convert"
	"braid/transport/mptcp"
)

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
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS):
		return convert.RetryError(convert.ResourceExceeded, time.Second)
	}
	return convert.RetryError(convert.NetworkFailure, time.Second) // also for want of a port to this one server
}

// portsTaken says whether all ports from one address to a server are in use.
func portsTaken(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)
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
