// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// nat64Pool are the addresses that tayga, which is stateless, gives its
	// IPv6 clients. Behind it they share the carrier's public one.
	nat64Pool = "192.168.255.0/24"
	nat64Self = "192.168.255.1"

	// nat64Lifetime is that of what routers and DNS tell, in seconds.
	nat64Lifetime = 600
	// nat64Interval is the time between two router advertisements.
	nat64Interval = 5 * time.Second
)

// nat64Public is the public address behind the n-th NAT64.
func nat64Public(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(129 + n)}) }

// buildNAT64 makes the carrier reach IPv4 for the gateway: tayga between its
// prefix and a pool, source NAT behind that, a DNS64 that knows one name, and
// router advertisements with the prefix.
func (w *World) buildNAT64(wan *WAN) error {
	r := wan.Router
	conf, err := os.CreateTemp("", "tayga-*.conf")
	if err != nil {
		return err
	}
	defer os.Remove(conf.Name())
	fmt.Fprintf(conf, "tun-device nat64\nipv4-addr %s\nprefix %v\ndynamic-pool %s\n", nat64Self, wan.NAT64, nat64Pool)
	if err := conf.Close(); err != nil {
		return err
	}
	_, err = r.Run(fmt.Sprintf(`tayga --config %s --mktun
		ip link set nat64 up
		ip route add %s dev nat64
		ip -6 route add %v dev nat64`, conf.Name(), nat64Pool, wan.NAT64))
	if err != nil {
		return fmt.Errorf("setting up NAT64 (needs tayga): %w", err)
	}
	// It reads the file before it goes to the background, where it lives until
	// the namespace is cleared.
	if _, err := r.Run("tayga --config " + conf.Name() + " >/dev/null 2>&1"); err != nil {
		return err
	}
	err = errors.Join(
		r.up("lo", netip.PrefixFrom(wan.Public4, 32)),
		w.Core.routes(wan.transit4, wan.Name, netip.PrefixFrom(wan.Public4, 32)),
		r.nft(fmt.Sprintf(`table ip nat64 {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oifname "core" ip saddr %s snat to %v
			}
		}`, nat64Pool, wan.Public4)))
	if err != nil {
		return err
	}
	return errors.Join(w.serveDNS64(wan), w.advertiseNAT64(wan))
}

// embed64 puts an IPv4 address behind a NAT64 prefix (RFC 6052, 2.2).
func embed64(prefix netip.Prefix, a netip.Addr) []byte {
	b := prefix.Addr().AsSlice()[:prefix.Bits()/8]
	for _, o := range a.AsSlice() {
		if len(b) == 8 {
			b = append(b, 0)
		}
		b = append(b, o)
	}
	return append(b, make([]byte, 16-len(b))...)
}

// serveDNS64 answers for ipv4only.arpa (RFC 7050) at the router's address.
// There are no other names.
func (w *World) serveDNS64(wan *WAN) error {
	c, err := wan.Router.ListenPacket(context.Background(), net.ListenConfig{}, "udp", netip.AddrPortFrom(wan.Router6, 53).String())
	if err != nil {
		return fmt.Errorf("serving DNS: %w", err)
	}
	w.services = append(w.services, c)
	go func() {
		var buf [512]byte
		for {
			n, from, err := c.ReadFrom(buf[:])
			if err != nil {
				return
			}
			if n > 12 {
				c.WriteTo(answer64(wan.NAT64, buf[:n]), from)
			}
		}
	}()
	return nil
}

// answer64 answers a question for which there is one name.
func answer64(prefix netip.Prefix, query []byte) []byte {
	b := slices.Clone(query)
	const aaaa = "\x08ipv4only\x04arpa\x00\x00\x1c\x00\x01"
	if !bytes.Equal(query[12:], []byte(aaaa)) {
		b[2], b[3] = 0x81, 0x83 // no such name
		return b
	}
	b[2], b[3], b[7] = 0x81, 0x80, 2
	for _, last := range []byte{170, 171} {
		b = append(b, 0xc0, 12, 0, 0x1c, 0, 1)
		b = binary.BigEndian.AppendUint32(b, nat64Lifetime)
		b = append(b, 0, 16)
		b = append(b, embed64(prefix, netip.AddrFrom4([4]byte{192, 0, 0, last}))...)
	}
	return b
}

// advertiseNAT64 sends router advertisements (RFC 4861) with a PREF64 option
// (RFC 8781) to the gateway, asked and unasked.
func (w *World) advertiseNAT64(wan *WAN) error {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var failed error
		err := rc.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.BindToDevice(int(fd), "gw"),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255))
		})
		return errors.Join(err, failed)
	}}
	c, err := wan.Router.ListenPacket(context.Background(), lc, "ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("sending router advertisements: %w", err)
	}
	w.services = append(w.services, c)
	go func() {
		all := &net.IPAddr{IP: net.ParseIP("ff02::1")}
		for next := time.Now(); ; {
			if now := time.Now(); !now.Before(next) {
				c.WriteTo(advertisement64(wan.NAT64), all)
				next = now.Add(nat64Interval)
			}
			c.SetReadDeadline(next)
			var buf [512]byte
			n, _, err := c.ReadFrom(buf[:])
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case n > 0 && buf[0] == 133: // solicitation
				next = time.Now()
			}
		}
	}()
	return nil
}

func advertisement64(prefix netip.Prefix) []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // a router for 1800 s
	code := slices.Index([]int{96, 64, 56, 48, 40, 32}, prefix.Bits())
	b = append(b, 38, 2)
	b = binary.BigEndian.AppendUint16(b, nat64Lifetime/8<<3|uint16(code))
	return append(b, prefix.Addr().AsSlice()[:12]...)
}
