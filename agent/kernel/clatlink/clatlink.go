// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package clatlink makes a TUN device the IPv4 side of a translator, and says
// what such a device has to know of the WAN behind it.
package clatlink

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

const conf = "/proc/sys/net"

// MTU is the largest IPv6 packet that a device sends, in bytes: its own MTU,
// or what a router has announced (RFC 4861, 4.6.4).
func MTU(device string) (int, error) {
	b, err := os.ReadFile(filepath.Join(conf, "ipv6/conf", device, "mtu"))
	if err != nil {
		return 0, fmt.Errorf("reading MTU: %w", err)
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("reading MTU of %s: %w", device, err)
	}
	return mtu, nil
}

// Up gives a device its only address and sets it up. What it sets goes with
// the device.
func Up(device string, addr netip.Addr) error {
	for _, s := range []struct{ key, value string }{
		{"ipv6/conf/" + device + "/disable_ipv6", "0"},  // may be the default
		{"ipv6/conf/" + device + "/addr_gen_mode", "1"}, // no addresses
		{"ipv6/conf/" + device + "/accept_ra", "0"},
		{"ipv6/conf/" + device + "/forwarding", "1"},
		{"ipv4/conf/" + device + "/rp_filter", "2"}, // loose
	} {
		if err := os.WriteFile(filepath.Join(conf, s.key), []byte(s.value), 0); err != nil {
			return fmt.Errorf("setting up %s: %w", device, err)
		}
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("adding %v to %s: %w", addr, device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", device, err)
	}
	return nil
}

// Forwarding says whether the kernel forwards IPv6, as it has to with what is
// translated.
func Forwarding() bool {
	b, err := os.ReadFile(filepath.Join(conf, "ipv6/conf/all/forwarding"))
	return err == nil && strings.TrimSpace(string(b)) != "0"
}
