// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"braid/test/lab"
	"braid/test/rig"
	"braid/test/traffic"
)

// houseHandshakes are the packets of which MPTCP comes about on a connection that a
// gateway extends: what the host sends or is sent.
var houseHandshakes = func() []handshake {
	up, down := fmt.Sprintf(`tcp dport %d `, speaker), fmt.Sprintf(`tcp sport %d `, speaker)
	joinUp, joinDown := `tcp dport { 8443, 45000-49095 } `, `tcp sport { 8443, 45000-49095 } ` // translated or not
	return append(announced(up, down), []handshake{
		{name: "join's SYN", up: joinUp + `tcp flags & (syn|ack) == syn tcp option mptcp subtype 1`},
		{name: "join's SYN+ACK", down: joinDown + `tcp flags & (syn|ack) == (syn|ack) tcp option mptcp subtype 1`},
		{name: "join's third packet", up: joinUp + `tcp flags & (syn|ack) == ack tcp option mptcp subtype 1`},
	}...)
}()

// spoil does something to the first packet that matches at a node's hook, and tells
// how often it has.
type spoil func(t *testing.T, n *lab.Node, hook, match string) (done func() int, stop func())

// spoilt has transfers extended, and each of those packets spoilt in turn: on its way
// to the gateway, and from there.
func spoilt(t *testing.T, spoil spoil, bulk bool) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	for _, tt := range houseHandshakes {
		for _, place := range []struct {
			name, up, down string
			node           *lab.Node
		}{{"in the house", "postrouting", "prerouting", host}, {"beyond", "prerouting", "prerouting", r.Core}} {
			if tt.ours && place.node == r.Core || tt.bulk && !bulk {
				continue // the gateway sends it; one of several at once: it is as if nothing had been
			}
			for op, way := range map[traffic.Op]string{traffic.Download: "downloading", traffic.Upload: "uploading"} {
				t.Run(tt.name+" "+place.name+", "+way, func(t *testing.T) {
					hook := place.up
					if tt.down != "" {
						hook = place.down
					}
					done, stop := spoil(t, place.node, hook, tt.up+tt.down)
					defer stop()
					extends(t, r, host, op)
					eventually(t, time.Second, func() error {
						if done() == 0 {
							return errors.New("nothing was spoilt")
						}
						return nil
					})
				})
			}
		}
	}
}

// loses is lose as a spoil.
func loses(t *testing.T, n *lab.Node, hook, match string) (func() int, func()) {
	t.Helper()
	lose(t, n, hook, match)
	return func() (packets int) {
		fmt.Sscanf(sh(t, n, "nft list table inet lose | grep -o 'counter packets [0-9]*'"), "counter packets %d", &packets)
		return packets
	}, func() { sh(t, n, "nft delete table inet lose") }
}

// Each packet of the handshakes is lost in turn. MPTCP stays, the address is
// announced, and taken.
func TestExtendLosses(t *testing.T) { spoilt(t, loses, true) }

// The same where it comes behind what follows it.
func TestExtendReordered(t *testing.T) { spoilt(t, laterBy(late), false) }

// The same where it comes twice.
func TestExtendRepeated(t *testing.T) { spoilt(t, laterBy(twice), false) }

func laterBy(f func(*testing.T, *lab.Node, string, string) (*atomic.Int64, func())) spoil {
	return func(t *testing.T, n *lab.Node, hook, match string) (func() int, func()) {
		packets, stop := f(t, n, hook, match)
		return func() int { return int(packets.Load()) }, stop
	}
}

// A join that the gateway itself has lost, of which connection tracking knows nothing
// then, comes again. It is not taken for a subflow that is not translated any more.
func TestExtendLosesJoin(t *testing.T) {
	r := start(t, rig.Options{Lab: lines(), UCI: extendUCI})
	serveMPTCP(t, r)
	host := phone(t, r)
	for range 3 { // connections are looked at once a second, the SYN comes again after one
		done, stop := loses(t, r.Gateway, "forward", `tcp dport 8443 tcp flags & (syn|ack) == syn tcp option mptcp subtype 1`)
		extends(t, r, host, traffic.Upload)
		if done() != 1 {
			t.Errorf("%d SYNs were lost", done())
		}
		stop()
	}
}
