// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/clat"
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
			got, err := clat.Embed(netip.MustParsePrefix(tt.prefix), netip.MustParseAddr("192.0.2.33"))
			if want := netip.MustParseAddr(tt.want); err != nil || got != want {
				t.Errorf("%v, %v; want %v", got, err, want)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for _, bad := range []string{"2001:db8::/33", "2001:db8::/128", "::/0", "192.0.2.0/32", "::ffff:0:0/96", "2001:db8:0:0:100::/96"} {
		if a, err := clat.Embed(netip.MustParsePrefix(bad), server4); !errors.Is(err, clat.ErrPrefix) {
			t.Errorf("%s: %v, %v", bad, a, err)
		}
	}
	if a, err := clat.Embed(netip.Prefix{}, server4); !errors.Is(err, clat.ErrPrefix) {
		t.Errorf("no prefix: %v, %v", a, err)
	}
}

func TestAddress(t *testing.T) {
	addr := netip.MustParseAddr
	var all []netip.Addr
	for i := range 7 {
		all = append(all, addr("192.0.0.0").Next())
		if i > 0 {
			all[i] = all[i-1].Next()
		}
	}
	tests := []struct {
		name  string
		index int
		taken []netip.Addr
		want  netip.Addr
		err   error
	}{
		{"first", 1, nil, addr("192.0.0.1"), nil},
		{"last", 7, nil, addr("192.0.0.7"), nil},
		{"more WANs than addresses", 8, nil, addr("192.0.0.1"), nil},
		{"another translator has it", 1, all[:1], addr("192.0.0.2"), nil},
		{"round the end", 7, all[6:], addr("192.0.0.1"), nil},
		{"none left", 3, all, netip.Addr{}, clat.ErrNoAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := clat.Address(tt.index, tt.taken)
			if diff := cmp.Diff(tt.err, err, cmpopts.EquateErrors()); diff != "" || got != tt.want {
				t.Errorf("%v, %v; want %v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}
