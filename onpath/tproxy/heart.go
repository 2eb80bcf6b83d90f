// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Heart tells the packet filter that its process lives, by packets with a mark
// of their own over the loopback. The filter is to intercept a family only for
// a while after such a packet of that family.
type Heart struct {
	conns []*net.UDPConn
}

// NewHeart opens a heart whose packets bear a mark. It needs CAP_NET_ADMIN.
func NewHeart(ctx context.Context, mark uint32) (*Heart, error) {
	var h Heart
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		lc := net.ListenConfig{Control: control(func(fd int) error { return setMark(fd, mark) })}
		c, err := lc.ListenPacket(ctx, "udp", addr)
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
			continue // IPv6 is off
		case err != nil:
			h.Close()
			return nil, fmt.Errorf("opening heartbeat socket: %w", err)
		}
		conn := c.(*net.UDPConn)
		h.conns = append(h.conns, conn)
		if err := conn.SetReadBuffer(1); err != nil { // the least there is
			h.Close()
			return nil, fmt.Errorf("shrinking heartbeat buffer: %w", err)
		}
	}
	return &h, nil
}

// Beat sends one packet a family, to the heart itself: nobody reads them, and
// what does not fit its buffer is dropped.
func (h *Heart) Beat() error {
	var errs []error
	for _, c := range h.conns {
		_, err := c.WriteTo([]byte{0}, c.LocalAddr())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Close stops the heart, and with it the interception once the while is over.
func (h *Heart) Close() error {
	var errs []error
	for _, c := range h.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
