// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package program is the translator of package siit as a program of the kernel
// (eBPF), for what it can do of it: TCP between one address and a prefix of 96
// bits, of which no checksum changes. All else stays with who reads the device.
package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Program translates what is routed into a device, and hands it to the kernel as
// if the device had received it. Make one with Attach.
type Program struct {
	program *ebpf.Program
	packets *ebpf.Map
}

// Addresses are what is translated: IPv4 is known as IPv6 in the prefix, and
// other hosts' IPv4 addresses are the last 32 bits of those in the prefix.
type Addresses struct {
	Prefix netip.Prefix // of 96 bits
	IPv4   netip.Addr
	IPv6   netip.Addr // Neutral(Prefix, IPv4)
}

// Neutral is the address of a prefix of 96 bits by which an IPv4 address is to be
// known so that no checksum of TCP changes (RFC 6052 section 4.1, RFC 6296). Its last
// 32 bits are no host's: of 240.0.0.0/16.
func Neutral(prefix netip.Prefix, ipv4 netip.Addr) netip.Addr {
	const reserved = 240 << 8
	at, in := prefix.Masked().Addr().As16(), ipv4.As4()
	// The sum of the words of source and destination is to be the same on either
	// side; the destination adds the prefix to its own IPv4 address.
	rest := words(in[:]) + 0xffff*16 - 2*words(at[:12]) - reserved
	binary.BigEndian.PutUint16(at[12:], reserved)
	binary.BigEndian.PutUint16(at[14:], uint16(rest%0xffff))
	return netip.AddrFrom16(at)
}

// words sums up 16 bits at a time.
func words(b []byte) (sum uint32) {
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

// Attach has the kernel translate what is routed into a device without a
// link-layer header and of that MTU in bytes. The program goes with the device.
// It needs CAP_NET_ADMIN and CAP_BPF, eBPF and the scheduler's clsact and bpf;
// where one of them is missing nothing is changed.
func Attach(device string, mtu int, a Addresses) (*Program, error) {
	if a.Prefix.Bits() != 96 || a.IPv6 != Neutral(a.Prefix, a.IPv4) {
		return nil, fmt.Errorf("translating between %v and %v in %v: a checksum would change", a.IPv4, a.IPv6, a.Prefix)
	}
	p := new(Program)
	if err := p.attach(device, mtu, a); err != nil {
		return nil, errors.Join(fmt.Errorf("translating in the kernel: %w", err), p.Close())
	}
	return p, nil
}

func (p *Program) attach(device string, mtu int, a Addresses) error {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	p.packets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "packets", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return err
	}
	p.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "translate", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: translate(a, mtu, p.packets.FD())})
	if err != nil {
		return err
	}
	// What clsact is given ends with its device.
	attrs := netlink.QdiscAttrs{LinkIndex: i.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "clsact"}); err != nil {
		return fmt.Errorf("adding clsact to %s: %w", device, err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: i.Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:           p.program.FD(),
		Name:         "translate",
		DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return fmt.Errorf("adding a program to %s: %w", device, err)
	}
	return nil
}

// Packets is how many it has translated. One that is to be cut into segments
// later counts once.
func (p *Program) Packets() (n uint64) {
	var each []uint64
	if p.packets.Lookup(uint32(0), &each) == nil {
		for _, of := range each {
			n += of
		}
	}
	return n
}

// Close lets go of the program, which works on as long as its device is there.
func (p *Program) Close() error {
	return errors.Join(p.program.Close(), p.packets.Close())
}
