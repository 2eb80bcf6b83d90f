// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

const conf = "/proc/sys/net"

// Up gives the device its only address, which makes it one side of a translator,
// and sets it up. What it sets goes with the device.
func (d *Device) Up(addr netip.Addr) error {
	device := d.name
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
