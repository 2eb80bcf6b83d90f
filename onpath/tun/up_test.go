// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tun_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"braid/onpath/tun"
)

func TestUp(t *testing.T) {
	// What others have switched off for all devices to come is on for this one.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	d, err := tun.Open("clat", 1420)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 2 { // what is there already stays
		if err := d.Up(netip.MustParseAddr("192.0.0.3")); err != nil {
			t.Fatal(err)
		}
	}
	i, err := net.InterfaceByName("clat")
	if err != nil || i.Flags&net.FlagUp == 0 {
		t.Fatalf("%+v, %v; want it up", i, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		got = append(got, a.String())
	}
	if diff := cmp.Diff([]string{"192.0.0.3/32"}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	for key, want := range map[string]string{"ipv6/conf/clat/forwarding": "1", "ipv6/conf/clat/accept_ra": "0", "ipv4/conf/clat/rp_filter": "2"} {
		b, err := os.ReadFile("/proc/sys/net/" + key)
		if got := strings.TrimSpace(string(b)); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", key, got, err, want)
		}
	}
}

func TestUpGone(t *testing.T) {
	d := open(t, "t5", 1500)
	ip(t, "link del t5")
	if err := d.Up(netip.MustParseAddr("192.0.0.3")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("setting up a device that is gone: %v", err)
	}
}
