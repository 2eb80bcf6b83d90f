// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package clat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"braid/agent/kernel/clatlink"
	"braid/agent/kernel/tun"
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
	translator *Translator
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
	mtu, err := clatlink.MTU(c.WAN)
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	t, err := NewTranslator(c.Prefix, c.IPv4, Inner(c.IPv4))
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	t.MSS = uint16(min(mtu, 0xffff) - header6 - headerTCP)
	// Packets from the WAN come this way too, before they get shorter.
	d, err := tun.Open(c.Device, mtu)
	if err != nil {
		return nil, fmt.Errorf("opening CLAT: %w", err)
	}
	if err := clatlink.Up(d.Name(), c.IPv4); err != nil {
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
	var out [len(in) + Growth]byte
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
	if len(in) >= header4 && in[0]>>4 == 4 {
		n, err := c.translator.Translate4to6(out, in)
		if err != nil {
			return err
		}
		c.Stats.Out.Add(1)
		return c.send6(out[:n], in)
	}
	n, err := c.translator.Translate6to4(out, in)
	if err != nil {
		return err
	}
	c.Stats.In.Add(1)
	_, err = c.device.Write(out[:n])
	return err
}

// send6 sends a translated packet, in pieces if that is how the IPv4 packet
// would have gone on. One that must not be cut goes as it is: the kernel tells
// its sender.
func (c *CLAT) send6(packet, original []byte) error {
	if len(packet) <= c.mtu || binary.BigEndian.Uint16(original[6:])&dontFragment != 0 {
		_, err := c.device.Write(packet)
		return err
	}
	for piece := range cut(packet, c.mtu, binary.BigEndian.Uint16(original[4:])) {
		if _, err := c.device.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
