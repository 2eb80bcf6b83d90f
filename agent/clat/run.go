// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package clat lets an IPv6-only WAN with NAT64 carry IPv4: a stateless
// translator on the customer's side (CLAT, RFC 6877) between one IPv4 address
// and the carrier's NAT64 prefix, over a TUN device.
//
//	socket bound to 192.0.0.1                     carrier's NAT64, server
//	        | IPv4                                        | IPv6
//	   +----v------- kernel ---------------------------------v------+
//	   |  TUN device          rule: from fd62:...   masquerade  WAN |
//	   +----|-----------------------------^-------------------------+
//	        +------> Translator ----------+
//
// Which IPv6 address do translated packets have? Between translator and kernel
// a constant one that exists nowhere else, Inner; on the WAN the WAN's own,
// which connection tracking exchanges for it in both directions. So answers
// reach the translator and never the host's own sockets, which may use the
// same prefix; a bearer that has a single address is enough; nothing has to
// answer neighbour solicitations for a second one, which switches that snoop
// on DHCPv6 and modems that act as routers do not let through; and a WAN that
// gets another address needs no change here.
//
// Translated packets are forwarded by the kernel, which counts hops, tells of
// packets that are too big and may be told what to let through.
package clat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"braid/onpath/siit"
	"braid/onpath/tun"
)

// Config is what a CLAT is made of.
type Config struct {
	Device string // to be made; at most 15 bytes
	WAN    string // device of the WAN, whose MTU counts
	Prefix netip.Prefix
	IPv4   netip.Addr // of Device; see Address
}

// CLAT is a TUN device with a translator behind it.
type CLAT struct {
	Stats Stats

	device     *tun.Device
	translator *siit.Translator
	mtu        int // of the WAN, in bytes
}

// Stats counts packets.
type Stats struct {
	Out     atomic.Uint64 // IPv4 to IPv6
	In      atomic.Uint64 // IPv6 to IPv4
	Dropped atomic.Uint64
}

// Open makes the device and gives it the IPv4 address. What goes where is for
// others to say, in routing and packet filter:
//
//   - IPv4 from the address, and to wherever, into the device;
//   - IPv6 to Inner of the address into the device;
//   - IPv6 from Inner of the address out of the WAN, forwarded and masqueraded.
//
// It needs CAP_NET_ADMIN.
func Open(c Config) (*CLAT, error) {
	mtu, err := maxPacket(c.WAN)
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	t, err := siit.NewTranslator(c.Prefix, c.IPv4, Inner(c.IPv4))
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	t.MSS = siit.MSS(mtu)
	// Packets from the WAN come this way too, before they get shorter.
	d, err := tun.Open(c.Device, mtu)
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	if err := d.Up(c.IPv4); err != nil {
		return nil, errors.Join(fmt.Errorf("opening CLAT: %w", err), d.Close())
	}
	return &CLAT{device: d, translator: t, mtu: mtu}, nil
}

// Run translates until ctx is done, and then removes the device. An error
// means that the device was lost.
func (c *CLAT) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.device.Close() })()
	defer c.device.Close()
	var in [1 << 16]byte
	var out [len(in) + siit.Growth]byte
	for {
		n, err := c.device.Read(in[:])
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading from %s: %w", c.device.Name(), err)
		}
		if c.carry(out[:], in[:n]) != nil {
			c.Stats.Dropped.Add(1)
		}
	}
}

// carry translates a packet and gives it back to the kernel.
func (c *CLAT) carry(out, in []byte) error {
	if len(in) > 0 && in[0]>>4 == 4 {
		n, err := c.translator.Translate4to6(out, in)
		if err != nil {
			return err
		}
		c.Stats.Out.Add(1)
		for piece := range siit.Pieces(out[:n], in, c.mtu) {
			if _, err := c.device.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
	n, err := c.translator.Translate6to4(out, in)
	if err != nil {
		return err
	}
	c.Stats.In.Add(1)
	_, err = c.device.Write(out[:n])
	return err
}
