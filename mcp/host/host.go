// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package host makes the kernel of a converter's host fit for it, keeps it so
// while the converter runs, and puts back what was before: room for the
// clients' subflows, TCP Fast Open, and the converter's addresses signalled to
// clients (ADD_ADDR, RFC 8684 section 3.4.1), so that one that has only IPv6 on
// one of its lines can add it to a connection made over IPv4.
package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"braid/transport/journal"
	"braid/transport/mptcp"
)

const (
	// subflows is what one connection may have beside its first one; kernels up
	// to 6.18 allow no more.
	subflows = 8
	// fastOpen are the bits of net.ipv4.tcp_fastopen for client and server.
	fastOpen = 3
	// interval is how often it is looked whether all is as it should be.
	interval = 5 * time.Second

	// The ids of our endpoints; the gateway's are from 224 on.
	firstID = 208
	lastID  = 223

	fastOpenPath = "/proc/sys/net/ipv4/tcp_fastopen"
)

// Host is this host's part of the kernel's settings.
type Host struct {
	Log      *journal.Log
	Announce func() []netip.Addr // empty: the interfaces' own
	Busy     func() bool         // connections are open; nil: never
	Awaited  func() bool         // connections wait for a successor; nil: never
	Dir      string              // of what outlives the process; empty: DefaultDir

	lock  *lock
	saved originals
	alone bool         // no other converter runs here, whose endpoints have our ids as well
	added []netip.Addr // by this one
	said  string
}

// Prepare makes the host fit. What it may not do is logged.
func (h *Host) Prepare() {
	if err := h.open(); err != nil {
		h.Log.Warn("preparing the host", "error", err)
	}
	h.look()
}

// Run keeps the host fit until ctx ends, and then leaves it as it was, unless
// another converter runs here, or is waited for: that one does, as after one that was
// killed. To withdraw an address closes the subflows that have it (kernel 6.18),
// and who has no other hears nothing for a minute.
func (h *Host) Run(ctx context.Context) {
	defer h.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
			h.look()
		}
	}
}

// look makes all as it should be, and logs what cannot be, once.
func (h *Host) look() {
	if h.lock != nil {
		_ = h.join()
	}
	err := errors.Join(h.limits(), h.fastOpen(), h.endpoints())
	said := fmt.Sprint(err)
	if err != nil && said != h.said {
		// Without the rights to do so the converter still works, on what the
		// host was given by its administrator.
		h.Log.Warn("preparing the host", "error", err)
	}
	h.said = said
}

func (h *Host) limits() error {
	have, err := mptcp.GetLimits()
	if err != nil || have.Subflows >= subflows {
		return err
	}
	if err := h.save(func(o *originals) bool {
		if o.Subflows != nil {
			return false
		}
		o.Subflows = &have.Subflows
		return true
	}); err != nil {
		return err
	}
	have.Subflows = subflows
	return mptcp.SetLimits(have)
}

func (h *Host) fastOpen() error {
	v, err := readFastOpen()
	if err != nil || v&fastOpen == fastOpen {
		return err
	}
	if err := h.save(func(o *originals) bool {
		if o.FastOpen != nil {
			return false
		}
		o.FastOpen = &v
		return true
	}); err != nil {
		return err
	}
	// Without it connections take a round trip more, and nothing else.
	return writeFastOpen(v | fastOpen)
}

func readFastOpen() (uint64, error) {
	b, err := os.ReadFile(fastOpenPath)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
}

func writeFastOpen(v uint64) error {
	return os.WriteFile(fastOpenPath, []byte(strconv.FormatUint(v, 10)), 0)
}
