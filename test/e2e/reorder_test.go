// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"braid/onpath/nflog"
	"braid/onpath/raw"
	"braid/onpath/segment"
	"braid/test/lab"
)

// late has the first packet that matches leave a node for it 20 ms later than it
// came, behind what follows it. It tells how many have been late.
func late(t *testing.T, n *lab.Node, hook, match string) (packets *atomic.Int64, stop func()) {
	t.Helper()
	return again(t, n, hook, match, "drop")
}

// twice has that packet come once more, 20 ms later.
func twice(t *testing.T, n *lab.Node, hook, match string) (packets *atomic.Int64, stop func()) {
	t.Helper()
	return again(t, n, hook, match, "accept")
}

// again sends the first packet that matches 20 ms later, whatever the verdict on it
// is now.
func again(t *testing.T, n *lab.Node, hook, match, verdict string) (packets *atomic.Int64, stop func()) {
	t.Helper()
	const (
		group = 99
		mark  = 0x99
		delay = 20 * time.Millisecond
	)
	nft(t, n, fmt.Sprintf(`table inet late
		delete table inet late
		table inet late {
			set done { typeof meta nfproto; flags dynamic; size 2; }
			chain late { type filter hook %s priority -400; meta mark %#x accept; meta l4proto tcp %s meta nfproto != @done add @done { meta nfproto } log group %d snaplen 65535 %s; }
		}`, hook, mark, match, group, verdict))
	var log *nflog.Log
	var sender *raw.Sender
	must(t, n.Do(func() (err error) {
		if log, err = nflog.Open(group, 1<<16-1); err == nil {
			sender, err = raw.Open(mark)
		}
		return err
	}))
	packets = new(atomic.Int64)
	doneC := make(chan error)
	go func() {
		doneC <- log.Serve(func(packet []byte) {
			packet = bytes.Clone(packet)
			time.Sleep(delay)
			s, ok := segment.Parse(packet)
			if !ok {
				return
			}
			segment.Sign(packet)
			if err := sender.Send(packet, s.Dst.Addr()); err != nil {
				t.Log(err) // several segments in one: it is lost
			}
			packets.Add(1)
		})
	}()
	return packets, func() {
		t.Helper()
		must(t, log.Close())
		must(t, <-doneC)
		must(t, sender.Close())
		sh(t, n, "nft delete table inet late")
	}
}
