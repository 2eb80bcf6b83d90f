// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"braid/onpath/nft"
)

func TestElements(t *testing.T) {
	if _, err := nft.Run(context.Background(), `
		table inet t {
			set flows4 { type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout; timeout 1h; size 2; }
			map servers { type inet_service : ipv4_addr . inet_service; }
			map marks { type inet_service : mark; }
			set flows6 { type ipv6_addr . inet_service . ipv6_addr . inet_service; flags dynamic,timeout; timeout 1h; }
		}`, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	defer nft.Run(context.Background(), "", "delete", "table", "inet", "t")
	e, err := nft.OpenElements("inet t")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	flow := func(a, b string) []byte { return nft.Key(netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)) }
	list := func() string {
		t.Helper()
		out, err := nft.Run(context.Background(), "", "list", "table", "inet", "t")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one := flow("198.51.100.2:40000", "192.0.2.80:443")
	for range 2 { // the second time it is there
		if err := e.Add("flows4", one, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Add("flows6", flow("[2001:db8::1]:1", "[2001:db8::2]:65535"), 0); err != nil {
		t.Fatal(err)
	}
	port := []byte{0xaf, 0xc8}
	if err := errors.Join(e.Map("servers", port, nft.Key(netip.MustParseAddrPort("192.0.2.80:443"))), e.Map("marks", port, binary.NativeEndian.AppendUint32(nil, 0x2000000))); err != nil {
		t.Fatal(err)
	}
	if err := e.Map("servers", port, nft.Key(netip.MustParseAddrPort("192.0.2.81:443"))); !errors.Is(err, unix.EEXIST) {
		t.Errorf("another meaning: %v", err)
	}
	for _, want := range []string{
		"45000 : 192.0.2.80 . 443", "45000 : 0x02000000",
		"198.51.100.2 . 40000 . 192.0.2.80 . 443 timeout 1m",
		"2001:db8::1 . 1 . 2001:db8::2 . 65535 expires",
	} {
		if out := list(); !strings.Contains(out, want) {
			t.Errorf("no %s:\n%s", want, out)
		}
	}
	if err := errors.Join(e.Add("flows4", flow("198.51.100.3:1", "192.0.2.80:443"), 0), e.Delete("flows4", one), e.Delete("flows4", one)); err != nil {
		t.Error(err)
	}
	if out := list(); strings.Contains(out, "198.51.100.2") {
		t.Errorf("still there:\n%s", out)
	}
	err = errors.Join(e.Add("flows4", flow("198.51.100.4:1", "192.0.2.80:443"), 0), e.Add("flows4", flow("198.51.100.5:1", "192.0.2.80:443"), 0))
	if !errors.Is(err, unix.ENFILE) {
		t.Errorf("a full set: %v", err)
	}
	if err := e.Add("flows", one, 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no such set: %v", err)
	}
}
