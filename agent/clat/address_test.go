// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"braid/agent/clat"
)

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
