// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"context"
	"net/netip"
	"testing"

	"braid/onpath/nft"
)

// What one change of a set costs who waits for it.
func BenchmarkElements(b *testing.B) {
	if _, err := nft.Run(context.Background(), `
		table inet t {
			set flows { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 1h; size 65536; }
		}`, "-f", "-"); err != nil {
		b.Fatal(err)
	}
	defer nft.Run(context.Background(), "", "delete", "table", "inet", "t")
	e, err := nft.OpenElements("inet t")
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	n := 0
	for b.Loop() {
		key := nft.Key(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 16), byte(n >> 8)}), uint16(n&255+1)))
		if err := e.Add("flows", key, 0); err != nil {
			b.Fatal(err)
		}
		if err := e.Delete("flows", key); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
