// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var compareAddr = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	name     = "08 697076346f6e6c79 04 61727061 00"
	asked    = name + "001c0001"
	wka      = "c00c 001c 0001 00000258 0010 20010db8 00640000 00000000 c00000aa"
	short    = "c00c 001c 0001 00000005 0010 0064ff9b 00000000 00000000 c00000ab"
	slash48  = "c00c 001c 0001 00000258 0010 20010db8 0122c000 0000aa00 00000000"
	two      = "c00c 001c 0001 00000258 0010 20010db8 c00000aa 00000000 c00000aa"
	native   = "c00c 001c 0001 00000258 0010 20010db8 00800000 00000000 00000080"
	cname    = "c00c 0005 0001 00000258 0002 c00c"
	fullName = name + "001c 0001 00000258 0010 20010db8 00640000 00000000 c00000aa"
)

func TestParseAnswer(t *testing.T) {
	found := func(p string, d time.Duration) NAT64 { return NAT64{netip.MustParsePrefix(p), d, OriginDNS} }
	tests := []struct {
		name, in string
		want     NAT64
		err      error
	}{
		{"well-known address", "1234 8180 0001 0001 0000 0000" + asked + wka, found("2001:db8:64::/96", 10*time.Minute), nil},
		{"well-known prefix, short life", "1234 8180 0001 0001 0000 0000" + asked + short, found("64:ff9b::/96", time.Minute), nil},
		{"length 48", "1234 8180 0001 0001 0000 0000" + asked + slash48, found("2001:db8:122::/48", 10*time.Minute), nil},
		{"behind an alias", "1234 8180 0001 0002 0000 0000" + asked + cname + wka, found("2001:db8:64::/96", 10*time.Minute), nil},
		{"name in full", "1234 8180 0001 0001 0000 0000" + asked + fullName, found("2001:db8:64::/96", 10*time.Minute), nil},
		{"ambiguous, then clear", "1234 8180 0001 0002 0000 0000" + asked + two + wka, found("2001:db8:64::/96", 10*time.Minute), nil},
		{"ambiguous", "1234 8180 0001 0001 0000 0000" + asked + two, NAT64{}, ErrNone},
		{"an address of its own", "1234 8180 0001 0001 0000 0000" + asked + native, NAT64{}, ErrNone},
		{"no addresses", "1234 8180 0001 0000 0000 0000" + asked, NAT64{}, ErrNone},
		{"no such name", "1234 8183 0001 0000 0000 0000" + asked, NAT64{}, ErrNone},
		{"another id", "1235 8180 0001 0001 0000 0000" + asked + wka, NAT64{}, errDNS},
		{"a question", "1234 0100 0001 0001 0000 0000" + asked + wka, NAT64{}, errDNS},
		{"cut header", "1234 8180 0001", NAT64{}, errDNS},
		{"cut question", "1234 8180 0001 0001 0000 0000 0869", NAT64{}, errDNS},
		{"cut record", "1234 8180 0001 0001 0000 0000" + asked + wka[:40], NAT64{}, errDNS},
		{"no record", "1234 8180 0001 0001 0000 0000" + asked, NAT64{}, errDNS},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAnswer(unhex(t, tt.in), 0x1234)
			if diff := cmp.Diff(tt.want, got, compareAddr); diff != "" || !errors.Is(err, tt.err) {
				t.Errorf("%v, %v; want %v, %v", got, err, tt.want, tt.err)
			}
		})
	}
	_, err := parseAnswer(unhex(t, "1234 8182 0001 0000 0000 0000"+asked), 0x1234)
	if err == nil || errors.Is(err, ErrNone) || errors.Is(err, errDNS) {
		t.Errorf("a server that fails: %v", err)
	}
}

func TestParsePREF64(t *testing.T) {
	found := func(p string, d time.Duration) NAT64 { return NAT64{netip.MustParsePrefix(p), d, OriginRouter} }
	const mtu = "0501 0000 000005dc"
	tests := []struct {
		name, in string
		want     NAT64
		ok       bool
	}{
		{"length 96", "2602 0258 0064ff9b 00000000 00000000", found("64:ff9b::/96", 10*time.Minute), true},
		{"length 64", "2602 0259 20010db8 01220344 00000000", found("2001:db8:122:344::/64", 10*time.Minute), true},
		{"length 56", "2602 025a 20010db8 01220300 00000000", found("2001:db8:122:300::/56", 10*time.Minute), true},
		{"length 48", "2602 025b 20010db8 01220000 00000000", found("2001:db8:122::/48", 10*time.Minute), true},
		{"length 40", "2602 025c 20010db8 01000000 00000000", found("2001:db8:100::/40", 10*time.Minute), true},
		{"length 32", "2602 025d 20010db8 00000000 00000000", found("2001:db8::/32", 10*time.Minute), true},
		{"bits after the prefix", "2602 025d 20010db8 deadbeef 00000000", found("2001:db8::/32", 10*time.Minute), true},
		{"longest life", "2602 fff8 0064ff9b 00000000 00000000", found("64:ff9b::/96", 65528*time.Second), true},
		{"withdrawn", "2602 0000 0064ff9b 00000000 00000000", found("64:ff9b::/96", 0), true},
		{"withdrawn beside another", "2602 0000 0064ff9b 00000000 00000000 2602 0258 20010db8 00640000 00000000", found("2001:db8:64::/96", 10*time.Minute), true},
		{"two withdrawn", "2602 0000 0064ff9b 00000000 00000000 2602 0000 20010db8 00640000 00000000", found("64:ff9b::/96", 0), true},
		{"after another option", mtu + "2602 0258 0064ff9b 00000000 00000000", found("64:ff9b::/96", 10*time.Minute), true},
		{"unknown length", "2602 025e 0064ff9b 00000000 00000000", NAT64{}, false},
		{"other size", "2603 0258 0064ff9b 00000000 00000000 00000000 00000000", NAT64{}, false},
		{"cut", "2602 0258 0064ff9b 00000000", NAT64{}, false},
		{"size 0", "2600 0258 0064ff9b", NAT64{}, false},
		{"none", mtu, NAT64{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parsePREF64(unhex(t, tt.in))
			if diff := cmp.Diff(tt.want, got, compareAddr); diff != "" || ok != tt.ok {
				t.Errorf("%v, %v; want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, "1234 8180 0001 0002 0000 0000"+asked+cname+wka))
	f.Add(unhex(f, "2602 0258 0064ff9b 00000000 00000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseAnswer(b, 0x1234); err == nil && (!n.Prefix.IsValid() || n.Lifetime < minLifetime) {
			t.Errorf("%x: %v", b, n)
		}
		if n, ok := parsePREF64(b); ok && n.Prefix != n.Prefix.Masked() {
			t.Errorf("%x: %v", b, n)
		}
	})
}
