// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pause is how long Watch waits before it subscribes again after an error.
const pause = 200 * time.Millisecond

// Watcher follows the network.
type Watcher struct {
	own      Own
	changedC chan struct{}
	touched  atomic.Bool
}

// Watch follows the network until ctx ends.
func Watch(ctx context.Context, own Own) (*Watcher, error) {
	s, err := subscribe()
	if err != nil {
		return nil, fmt.Errorf("watching the network: %w", err)
	}
	w := newWatcher(own)
	go w.run(ctx, s)
	return w, nil
}

func newWatcher(own Own) *Watcher { return &Watcher{own: own, changedC: make(chan struct{}, 1)} }

// Changed receives a hint when what Read reads may have changed; what has, Read
// tells. Any number of changes since the last hint was taken are one. Changes
// that could not be followed are a hint too, so that none is missed. The
// channel is closed after the watcher's context has ended, when nothing of it is left.
func (w *Watcher) Changed() <-chan struct{} { return w.changedC }

// Touched says whether there was anything since it was last asked, be it of what is
// the reader's own, which nobody is woken for.
func (w *Watcher) Touched() bool { return w.touched.Swap(false) }

func (w *Watcher) run(ctx context.Context, s *nl.NetlinkSocket) {
	defer close(w.changedC)
	for s != nil {
		w.follow(ctx, s)
		if s = subscribeAgain(ctx); s != nil {
			w.hint()
		}
	}
}

func subscribe() (*nl.NetlinkSocket, error) {
	return nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
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
func (w *Watcher) follow(ctx context.Context, s *nl.NetlinkSocket) {
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
		if err != nil || slices.ContainsFunc(msgs, w.news) {
			w.hint()
		}
	}
}

// news says whether a message tells of something that Read reads: of others' routes,
// of which a routing daemon or a VPN may change many a second, only the default
// ones count. What is our own has been touched.
func (w *Watcher) news(m syscall.NetlinkMessage) bool {
	own := false
	switch m.Header.Type {
	case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
		own = true // of settings, rp_filter among them, Read reads none
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return true
		}
		h := nl.DeserializeRtMsg(m.Data)
		own = w.own.table(routeTable(h, m.Data))
		if !own && (h.Dst_len > 0 || h.Flags&unix.RTM_F_CLONED != 0) {
			return false
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r, err := parseRule(m.Data)
		own = err == nil && w.own.rule(r)
	}
	if own {
		w.touched.Store(true)
	}
	return !own
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

func (w *Watcher) hint() {
	w.touched.Store(true)
	select {
	case w.changedC <- struct{}{}:
	default:
	}
}
