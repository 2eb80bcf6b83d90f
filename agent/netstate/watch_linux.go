// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pause is how long Watch waits before it subscribes again after an error.
const pause = 200 * time.Millisecond

// Watch gives a hint when what Read reads may have changed; what has, Read
// tells. Any number of changes since the last hint was taken are one. Changes
// that could not be followed are a hint too, so that none is missed. The
// channel is closed after ctx has ended, when nothing of Watch is left.
func Watch(ctx context.Context, own Own) (<-chan struct{}, error) {
	s, err := subscribe()
	if err != nil {
		return nil, fmt.Errorf("watching the network: %w", err)
	}
	hintC := make(chan struct{}, 1)
	go watch(ctx, own, s, hintC)
	return hintC, nil
}

func watch(ctx context.Context, own Own, s *nl.NetlinkSocket, hintC chan<- struct{}) {
	defer close(hintC)
	for s != nil {
		follow(ctx, own, s, hintC)
		if s = subscribeAgain(ctx); s != nil {
			hint(hintC)
		}
	}
}

func subscribe() (*nl.NetlinkSocket, error) {
	return nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
}

// subscribeAgain returns nil when ctx has ended.
func subscribeAgain(ctx context.Context) *nl.NetlinkSocket {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if s, err := subscribe(); err == nil {
			return s
		}
	}
}

// follow turns what s receives into hints until it fails or ctx ends, and
// closes it.
func follow(ctx context.Context, own Own, s *nl.NetlinkSocket, hintC chan<- struct{}) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.Close()
		close(closed)
	})
	defer func() {
		if stop() {
			s.Close()
		} else {
			<-closed
		}
	}()
	for {
		// The socket has overflowed at ENOBUFS and goes on after it.
		msgs, _, err := s.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		if err != nil || slices.ContainsFunc(msgs, own.news) {
			hint(hintC)
		}
	}
}

// news says whether a message tells of something that Read reads: of routes,
// of which a routing daemon or a VPN may change many a second, only the default
// ones count.
func (o Own) news(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return true
		}
		h := nl.DeserializeRtMsg(m.Data)
		return h.Dst_len == 0 && h.Flags&unix.RTM_F_CLONED == 0 && !o.table(routeTable(h, m.Data))
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r, err := parseRule(m.Data)
		return err != nil || !o.rule(r)
	}
	return true
}

// routeTable is the table of a route; one beyond 255 is in an attribute.
func routeTable(h *nl.RtMsg, m []byte) int {
	attrs, _ := nl.ParseRouteAttr(m[h.Len():])
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_TABLE {
			return int(word(a.Value))
		}
	}
	return int(h.Table)
}

func hint(hintC chan<- struct{}) {
	select {
	case hintC <- struct{}{}:
	default:
	}
}
