// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// destination is what "explain" is asked about, as ubus takes it.
type destination struct {
	Addr netip.Addr `json:"dest"`
	Port uint16     `json:"port"`
}

// errDestination is an argument that makes no sense.
var errDestination = errors.New("want ADDRESS or HOST, and maybe :PORT after it")

// lookup reads ADDRESS, HOST, ADDRESS:PORT, HOST:PORT or [ADDRESS]:PORT; the
// port is 443 unless given. Of a host it is the address that connections try
// first.
func lookup(ctx context.Context, s string) (destination, error) {
	d := destination{Port: 443}
	host := strings.Trim(s, "[]")
	if a, err := netip.ParseAddr(host); err == nil {
		d.Addr = a.Unmap()
		return d, nil
	}
	if h, port, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return d, fmt.Errorf("%q is no port: %w", port, errDestination)
		}
		host, d.Port = h, uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		d.Addr = a.Unmap()
		return d, nil
	}
	if host == "" || strings.ContainsAny(host, ":/ []") {
		return d, fmt.Errorf("%q: %w", s, errDestination)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return d, fmt.Errorf("resolving %s: %w", host, err)
	}
	d.Addr = addrs[0].Unmap()
	return d, nil
}
