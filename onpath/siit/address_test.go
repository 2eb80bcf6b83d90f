// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package siit_test

import (
	"errors"
	"net/netip"
	"testing"

	"braid/onpath/siit"
)

// The examples of RFC 6052, 2.4.
func TestEmbed(t *testing.T) {
	tests := []struct{ prefix, want string }{
		{"2001:db8::/32", "2001:db8:c000:221::"},
		{"2001:db8:100::/40", "2001:db8:1c0:2:21::"},
		{"2001:db8:122::/48", "2001:db8:122:c000:2:2100::"},
		{"2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"},
		{"2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"},
		{"2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"},
		{"64:ff9b::/96", "64:ff9b::192.0.2.33"},
	}
	for _, tt := range tests {
		t.Run(tt.prefix, func(t *testing.T) {
			got, err := siit.Embed(netip.MustParsePrefix(tt.prefix), netip.MustParseAddr("192.0.2.33"))
			if want := netip.MustParseAddr(tt.want); err != nil || got != want {
				t.Errorf("%v, %v; want %v", got, err, want)
			}
			back, err := siit.Extract(netip.MustParsePrefix(tt.prefix), got)
			if want := netip.MustParseAddr("192.0.2.33"); err != nil || back != want {
				t.Errorf("back: %v, %v; want %v", back, err, want)
			}
			if a, err := siit.Extract(netip.MustParsePrefix(tt.prefix), netip.MustParseAddr("3fff::1")); !errors.Is(err, siit.ErrForeign) {
				t.Errorf("another prefix: %v, %v", a, err)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for _, bad := range []string{"2001:db8::/33", "2001:db8::/128", "::/0", "192.0.2.0/32", "::ffff:0:0/96", "2001:db8:0:0:100::/96"} {
		if a, err := siit.Embed(netip.MustParsePrefix(bad), server4); !errors.Is(err, siit.ErrPrefix) {
			t.Errorf("%s: %v, %v", bad, a, err)
		}
	}
	if a, err := siit.Embed(netip.Prefix{}, server4); !errors.Is(err, siit.ErrPrefix) {
		t.Errorf("no prefix: %v, %v", a, err)
	}
}
